"""Which configurations of a package apply: the one that is asked for, after those it starts from.

An import asks before the command line does, which means the root package and every other that has a configuration of
that name; where nobody asks, one called "default" applies. A configuration of a fragment is known once the fragment is
read.
"""

from collections.abc import Mapping

from msgspec import Struct

from dfm.core.flow.definitions import ConfigDefinition
from dfm.core.flow.diagnostics import At, Diagnostics, did_you_mean, is_suggestion
from dfm.core.flow.loaded import ImportSettings, LoadedPackage

DEFAULT_CONFIG = "default"


class Configurations(Struct, frozen=True):
    """Chooses configurations.

    Attributes:
        wanted: on the command line.
        settings: of imports, by the name of the imported package.
    """

    wanted: str | None
    settings: Mapping[str, ImportSettings]
    diagnostics: Diagnostics

    def chosen(self, package: LoadedPackage) -> list[ConfigDefinition]:
        """Return the chosen configuration after those it starts from; none where it is that of a fragment."""
        by_name = {config.name: config for config in package.definition.configs}
        package.extensions_of.update({name: config.extensions for name, config in by_name.items()})
        settings = self.settings.get(package.name)
        wanted = self.wanted if package.is_root or self.wanted in by_name else None
        wanted = settings.config if settings is not None and settings.config is not None else wanted
        if wanted is None:
            wanted = DEFAULT_CONFIG if DEFAULT_CONFIG in by_name else None
        package.config_name = wanted
        if wanted is None or wanted not in by_name:
            return []
        return self._with_bases(by_name[wanted], by_name)

    def chosen_of_fragments(self, package: LoadedPackage) -> list[ConfigDefinition]:
        """Return the chosen configuration where a fragment has it; else report that nothing has it."""
        name = package.config_name
        assert name is not None
        if name in package.fragment_configs:
            config, place = package.fragment_configs[name]
            own = {
                other.name: other for other, where in package.fragment_configs.values() if where.prefix == place.prefix
            }
            return self._with_bases(config, {c.name: c for c in package.definition.configs} | own)
        known = [*(config.name for config in package.definition.configs), *package.fragment_configs]
        hint = did_you_mean(name, known) or f"it has: {', '.join(sorted(known)) or 'none'}"
        if not self.diagnostics.lost.may_be_named(name.rpartition(".")[2], is_near=is_suggestion(hint)):
            message = f"package {package.name!r} has no configuration {name!r}"
            self.diagnostics.error("unknown-config", message, self._config_at(package), hint=hint)
        return []

    def _config_at(self, package: LoadedPackage) -> At:
        """Return what asks for the package's configuration, where an import does."""
        settings = self.settings.get(package.name)
        asking = None if settings is None else settings.config_at
        return package.definition.at if asking is None else asking

    def _with_bases(self, config: ConfigDefinition, by_name: Mapping[str, ConfigDefinition]) -> list[ConfigDefinition]:
        chain = [config]
        while (base := chain[0].uses) is not None:
            if base.value not in by_name or by_name[base.value] in chain:
                problem = "leads back to itself" if base.value in by_name else "does not exist"
                self.diagnostics.error(
                    "unknown-config",
                    f"configuration {base.value!r} {problem}",
                    base.node,
                    hint=did_you_mean(base.value, by_name),
                )
                break
            chain.insert(0, by_name[base.value])
        return chain
