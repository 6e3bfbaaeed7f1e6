"""`python -m outreach.cli`, the same as the `outreach` script."""

from outreach.cli.app import main

if __name__ == "__main__":
    main()
