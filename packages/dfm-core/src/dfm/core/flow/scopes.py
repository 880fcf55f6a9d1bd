"""What a name in `${{ }}` means, from the inside out.

Inside a package: its parameters, the packages it imports, then what is always there (`env`, `rootdir`, `srcdir`,
`root`).
"""

from collections.abc import Iterator, Mapping, Sequence

from dfm.core.expr.errors import UnknownNameError
from dfm.core.flow.filters import SHELL, find_filter, usable_filters
from dfm.core.flow.model import Filter, PackageScope


class PackageNames:
    """The names of one package, as its own files see them."""

    def __init__(self, package: PackageScope, environ: Mapping[str, str], rootdir: str, root_file: str) -> None:
        self.package = package
        self._always: dict[str, object] = {
            "env": environ,
            "rootdir": rootdir,
            "srcdir": package.srcdir,
            "root": root_file,
        }

    def filter(self, name: str) -> Filter | None:
        """Return the filter that the package calls so."""
        return SHELL if name == SHELL.name else find_filter(self.package, name)

    def filter_names(self) -> Iterator[str]:
        """Yield what the package may call filters."""
        yield from usable_filters(self.package)

    def run_filter(self, used: object, value: object, arguments: Sequence[object]) -> object:  # noqa: ARG002  (the protocol's)
        """Refuse to run a program: nothing runs while a flow is read."""
        raise ValueError("it runs a program, and nothing runs while a flow is read")

    def lookup(self, name: str) -> object:
        """Return what the name means here.

        Raises:
            UnknownNameError: nothing; it carries the names there are.
        """
        package = self.package
        if name in package.params:
            return package.params[name]
        imported = imported_names(package, name)
        if imported is not None:
            return imported
        if name in self._always:
            return self._always[name]
        raise UnknownNameError(name, [*package.params, *_first_words(package.imports), *self._always])


def imported_names(package: PackageScope, name: str) -> Mapping[str, object] | None:
    """Return the parameters of the package called `name` here, as a mapping; dotted names nest.

    The package's own name is one of them, and so are those of packages it does not import.
    """
    tree: dict[str, object] = {}
    is_found = False
    known = {package.package: package} | package.imports
    if not any(alias.partition(".")[0] == name for alias in known):
        known = package.loaded
    for alias, scope in known.items():
        first, *rest = alias.split(".")
        if first != name:
            continue
        is_found = True
        branch = tree
        for word in rest:
            below = branch.setdefault(word, {})
            branch = below if isinstance(below, dict) else branch
        branch.update({key: value for key, value in scope.params.items() if key not in branch})
    return tree if is_found else None


def _first_words(names: Mapping[str, object]) -> Iterator[str]:
    return (name.split(".")[0] for name in names)
