"""Where a COPY puts its files: as Docker does, through the links of what lies below, into folders as they are there."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath

from argosy.images.docker.steps import is_ours, sources_of
from argosy.images.oci.layers import Folder
from argosy.images.oci.pythons import File, resolve


def place(below: Mapping[str, File], words: Sequence[str], files: Collection[str]) -> dict[str, str]:
    """Path in the image -> the manifest's file, for the words of a COPY. Raises ValueError for what cannot be."""
    *sources, target = words
    folders = _folders(below)
    into = _resolved(below, target)
    placed = {}
    for source in sources:
        found = sources_of(source, files)
        single = found.keys() == {source.rstrip("/").removeprefix("./")}
        as_it_is = single and not target.endswith("/") and into not in folders
        for path, rest in found.items():
            folder, _, name = into.rpartition("/") if as_it_is else f"{into}/{rest}".rpartition("/")
            real = _resolved(below, folder)
            where = f"{real}/{name}".lstrip("/")
            _check(below, where)
            if where in folders:
                raise ValueError(f"/{where} is a folder in the image so far, and a file would take its place")
            placed[where] = path
    return placed


def folders_above(below: Mapping[str, File], paths: Iterable[str]) -> dict[str, Folder]:
    """Those of the folders over these paths that are there already."""
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return {path: folder for path in above if path in below and (folder := below[path].folder)}


def _resolved(below: Mapping[str, File], path: str) -> str:
    real = resolve(below, path)
    if real is None:
        raise ValueError(f"the links of /{path.lstrip('/')} lead in a circle")
    return real


def _check(below: Mapping[str, File], path: str) -> None:
    if is_ours(f"/{path}"):
        raise ValueError(f"/{path} is where it leads, and nothing can be put there")
    for parent in PurePosixPath(path).parents:
        if (found := below.get(str(parent))) and not found.folder:
            raise ValueError(f"/{parent} is a file in the image so far, and /{path} would lie in it")


def _folders(below: Mapping[str, File]) -> set[str]:
    """Also those that no layer names, but for what is in them."""
    found = {"", *(path for path, file in below.items() if file.folder)}
    for path in below:
        above = path.rpartition("/")[0]
        while above not in below and above not in found:
            found.add(above)
            above = above.rpartition("/")[0]
    return found
