"""Builds an engine's programs once and keeps them in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

from tests.sim.cluster import paths
from tests.sim.cluster.lock import alone
from tests.sim.cluster.progress import Say

from . import EngineError, golang
from .catalogue import ENGINES, Engine

PROGRESS_SECONDS = 60


def ensure(name: str, say: Say) -> Path:
    """The folder with the programs of an engine of the catalogue. Raises EngineError."""
    engine = ENGINES[name]
    folder = place(engine)
    with alone(f"engine-{name}"):
        if not _complete(engine, folder):
            _build(engine, folder, say)
    return folder


def place(engine: Engine) -> Path:
    """Where an engine's programs are kept: another module, release of Go or flag is another place."""
    made_with = (engine.version, engine.go, engine.variables, engine.tags, engine.cgo, engine.files)
    digest = hashlib.sha256(repr(made_with).encode())
    for file in ("go.mod", "go.sum"):
        digest.update((engine.folder / file).read_bytes())
    return paths.cache() / "engines" / f"{engine.name}-{digest.hexdigest()[:12]}"


def _complete(engine: Engine, folder: Path) -> bool:
    files = [Path(file).name for files in engine.files.values() for file in files]
    return all(os.access(folder / program, os.X_OK) for program in engine.programs) and all(
        (folder / file).exists() for file in files
    )


def _build(engine: Engine, folder: Path, say: Say) -> None:
    started = time.monotonic()
    command = golang.ensure(say)
    environment = golang.environment(command, engine.go) | {"CGO_ENABLED": str(int(engine.cgo))}
    say(f"{engine.name}: building {engine.version} with Go {engine.go}, about {engine.minutes:g} min on two cores")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tags = [f"-tags={','.join(engine.tags)}"] if engine.tags else []
    wanted = _go([command, "list", "-deps", *tags, "tool"], engine, environment).split()
    linker = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in engine.variables.items())])
    build: list[str | Path] = [command, "build", "-v", *tags, f"-ldflags={linker}", f"-o={partial}/", "tool"]
    _watched(build, engine, environment, len(wanted), say)
    for given, name in engine.renamed.items():
        (partial / given).rename(partial / name)
    for module, files in engine.files.items():
        source = Path(_go([command, "list", "-m", "-f={{.Dir}}", module], engine, environment).strip())
        for file in files:
            shutil.copyfile(source / file, partial / Path(file).name)
    if not _complete(engine, partial):
        raise EngineError(f"{engine.name}: the build left {sorted(path.name for path in partial.iterdir())}")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    say(f"{engine.name}: built in {time.monotonic() - started:.0f} s")


def _go(command: list[str | Path], engine: Engine, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=engine.folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EngineError(f"{engine.name}: go {command[1]}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _watched(command: list[str | Path], engine: Engine, environment: dict[str, str], wanted: int, say: Say) -> None:
    """Runs ``go build -v``, which prints a line for each package that it compiles, and says how far it is."""
    process = subprocess.Popen(
        command, cwd=engine.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    reader.start()
    while True:
        try:
            returncode = process.wait(PROGRESS_SECONDS)
            break
        except subprocess.TimeoutExpired:
            say(f"{engine.name}: {len(lines)} of at most {wanted} packages compiled")
    reader.join()
    if returncode != 0:
        raise EngineError(f"{engine.name}: go build: {''.join(lines[-20:])[-2000:]}")
