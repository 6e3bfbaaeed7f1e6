"""Generated code: `python -m scripts.protos generate` writes it, `check` lints the protos and fails on drift.

`buf` works offline on a descriptor image that `grpc_tools.protoc` makes. `breaking` compares with the protos of another
git revision: `python -m scripts.protos breaking main`.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"


def _sources(protos: Path) -> list[str]:
    return sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))


def _protoc(protos: Path, *arguments: str) -> None:
    well_known = str(files("grpc_tools").joinpath("_proto"))
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{protos}",
        f"-I{well_known}",
        *arguments,
    ]
    # protoc looks for its plugins in PATH; ours are beside this Python, whether or not its environment is activated.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    environment = {**os.environ, "PATH": path}
    subprocess.run([*command, *_sources(protos)], check=True, cwd=protos, env=environment)


def generate(target: Path) -> None:
    """Write `outreach/**/*_pb2*.py(i)` below `target`."""
    _protoc(
        PROTOS,
        f"--python_out={target}",
        f"--grpc_python_out={target}",
        f"--mypy_out=quiet:{target}",
        f"--mypy_grpc_out=quiet:{target}",
    )
    for path in target.joinpath("outreach").rglob(
        "*_pb2_grpc.py*"
    ):  # no service: nothing but boilerplate
        source = PROTOS / path.relative_to(target).with_name(path.name.split("_pb2")[0] + ".proto")
        if source.exists() and "\nservice " not in source.read_text():
            path.unlink()


def drift() -> list[str]:
    """Generated files that differ from what the protos give."""
    with tempfile.TemporaryDirectory() as directory:
        fresh = Path(directory)
        generate(fresh)
        wanted = {path.relative_to(fresh) for path in fresh.rglob("*_pb2*")}
        present = {
            path.relative_to(ROOT)
            for path in (ROOT / "outreach").rglob("*_pb2*.py*")
            if "__pycache__" not in path.parts
        }
        differing = {
            name
            for name in wanted & present
            if not filecmp.cmp(fresh / name, ROOT / name, shallow=False)
        }
        return sorted(str(name) for name in (wanted ^ present) | differing)


def _image(protos: Path, path: Path) -> None:
    _protoc(protos, f"--descriptor_set_out={path}", "--include_imports", "--include_source_info")


def _buf(*arguments: str) -> int:
    buf = shutil.which("buf", path=str(Path(sys.executable).parent)) or shutil.which("buf")
    if buf is None:
        print("buf is missing: pip install buf-bin", file=sys.stderr)
        return 1
    return subprocess.run([buf, *arguments], check=False, cwd=ROOT).returncode


def lint() -> int:
    """`buf lint` by buf.yaml."""
    with tempfile.TemporaryDirectory() as directory:
        image = Path(directory) / "image.binpb"
        _image(PROTOS, image)
        return _buf("lint", str(image), "--config", str(ROOT / "buf.yaml"))


def breaking(revision: str) -> int:
    """`buf breaking` against the protos of a git revision."""
    with tempfile.TemporaryDirectory() as directory:
        old = Path(directory) / "old"
        old.mkdir()
        archive = subprocess.run(
            ["git", "archive", revision, "protos"], check=True, cwd=ROOT, capture_output=True
        ).stdout
        subprocess.run(["tar", "-x", "-C", str(old)], input=archive, check=True)
        before, now = Path(directory) / "before.binpb", Path(directory) / "now.binpb"
        _image(old / "protos", before)
        _image(PROTOS, now)
        return _buf(
            "breaking", str(now), "--against", str(before), "--config", str(ROOT / "buf.yaml")
        )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("generate")
    commands.add_parser("check")
    commands.add_parser("breaking").add_argument("revision")
    arguments = parser.parse_args()
    if arguments.command == "generate":
        generate(ROOT)
        return 0
    if arguments.command == "breaking":
        return breaking(arguments.revision)
    names = drift()
    if names:
        print(
            "generated code differs from the protos; run `make protos`:",
            *names,
            sep="\n  ",
            file=sys.stderr,
        )
    return lint() or (1 if names else 0)


if __name__ == "__main__":
    sys.exit(main())
