"""A soak: campaigns of both channels without end, a fault every minute, and a look at what grows.

    python -m chaos soak 60 --rate 200 --fault-every 60

All real processes, two replicas of each service. Campaigns with contacts imported anew are run one
after the other on each channel; each is watched, polled and exported while it runs, checked by
`chaos.checker` when nothing more can come of it, and its records are dropped; a few minutes later it
is deleted, or the retention finds it. So the database and the soak itself hold campaigns of some
minutes, however long it goes on.

Which faults, and why some processes are never killed: `chaos.soak.disturbance`. How growth is measured,
and what is called a leak: `chaos.soak.report`.
"""
