"""A config file with the best settings that `tune` has found; it extends the one that was tuned."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Config, ConfigError
from pipeline.config.shipped import name_in_package
from pipeline.config.yaml_file import write_yaml

MARK = "# Written by `tune`"


@dataclass(frozen=True)
class TunedConfig:
    """The file in `folder` for the config file `base`, of the same name."""

    base: Path
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.base.name

    def check(self) -> None:
        """Refuse to replace what somebody has written.

        Raises:
            ConfigError: there is a file that is not by `tune`.
        """
        if self.path.exists() and not self.path.read_text(encoding="utf-8").startswith(MARK):
            raise ConfigError(
                f"{self.path} was not written by `tune`, which would replace it: name another folder "
                "for --write, or move the file"
            )

    def write(self, variant: str, settings: dict[str, Any], remarks: Iterable[str]) -> None:
        """Write the settings, and `remarks` as comments above them."""
        below = name_in_package(self.base) or os.path.relpath(self.base, self.folder)
        comments = "".join(f"# {remark}\n" for remark in remarks)
        text = write_yaml([{"extends": below, "variant": variant, **settings}])
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"{MARK}\n{comments}{text}", encoding="utf-8")


def settings_of(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """What a file has to hold for the config to have its values at `keys`.

    A file replaces lists as a whole, so a key within a list, such as `training.phases[].epochs`,
    brings all of the list that is set.
    """
    values = config.model_dump(mode="json", exclude_unset=True)
    settings: dict[str, Any] = {}
    for key in keys:
        *sections, name = key.partition("[")[0].split(".")
        source, target = values, settings
        for section in sections:
            source, target = source[section], target.setdefault(section, {})
        target[name] = source[name]
    return settings
