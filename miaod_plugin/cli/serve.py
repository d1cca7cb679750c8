"""The command ``miaod serve``."""

from pathlib import Path
from typing import Annotated

import typer


def serve(
    project: Annotated[
        Path, typer.Option("--project", help="Folder of a project that `miaod loop init` made.")
    ] = Path(),
    host: Annotated[str, typer.Option(help="Address to listen on. Whoever reaches it can annotate.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 9090,
    train_after: Annotated[
        int | None, typer.Option(min=1, help="Train once so many annotated photographs are new; else when told to.")
    ] = None,
) -> None:
    """Answer Label Studio as its machine-learning backend: boxes for its tasks, and training on what is annotated.

    In Label Studio, give the address that is printed under Settings, Model. With "uncertainty sampling" as its task
    sampling it asks for the most informative photographs first. From 1.23.2 on it calls its own machine or network only
    when it is started with ML_BLOCK_LOCAL_IP=false SSRF_PROTECTION_ENABLED=false in its environment.
    """
    from ..loop import Project
    from ..serving import Backend
    from ..serving import serve as make_server

    backend = Backend(Project(project), train_after)
    with make_server(backend, host, port) as server:
        address, own_port = server.server_address[:2]
        print(f"http://{address}:{own_port}: serving {backend.version()} of {backend.project.places.folder.absolute()}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped; a half-done training goes on at the next one")
