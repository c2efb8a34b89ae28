"""Configuration: defaults in dataclasses, differences in files, and errors that say where and what instead."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from gtasr_video.config import config_root, find_config, load_config, nearest
from gtasr_video.errors import ConfigError


@dataclass(frozen=True)
class Weights:
    pixel: float = 1.0
    edge: float = 0.5


@dataclass(frozen=True)
class Phase:
    clips: int = 10
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Settings:
    name: str = "s"
    size: int = 4
    rate: float | None = None
    fast: bool = False
    codec: Literal["h264", "h265"] = "h264"
    scales: tuple[int, ...] = (4,)
    pair: tuple[int, str] = (1, "a")
    file: Path | None = None
    weights: Weights = field(default_factory=Weights)
    phases: tuple[Phase, ...] = (Phase(),)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size must not be negative")


@dataclass(frozen=True)
class Defaults:
    phases: tuple[Phase, ...] = (Phase(1), Phase(2))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def fails(expected: str, *arguments: object, **more: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Settings, *arguments, **more)  # type: ignore[arg-type]
    assert str(caught.value) == expected


def test_defaults_alone() -> None:
    assert load_config(Settings) == Settings()


def test_a_file_holds_differences_and_set_overrides_it(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.toml",
        """
        name = "m"
        rate = 2
        scales = [4, 2]
        pair = [3, "b"]
        file = "x/y.mp4"
        [weights]
        edge = 0.25
        """,
    )
    loaded = load_config(Settings, file, ["name=l", "weights.pixel=2", "fast=true", "codec=h265"])
    assert loaded == Settings(
        name="l",
        rate=2.0,
        fast=True,
        codec="h265",
        scales=(4, 2),
        pair=(3, "b"),
        file=Path("x/y.mp4"),
        weights=Weights(2.0, 0.25),
    )


def test_a_file_may_start_from_another_and_none_takes_a_value_back(tmp_path: Path) -> None:
    base = write(tmp_path / "base.toml", "size = 8\nrate = 3.5\n[weights]\npixel = 9\n")
    file = write(tmp_path / "a.toml", f'extends = "{base}"\nname = "m"\n[weights]\nedge = 1\n')
    loaded = load_config(Settings, file, ["rate=none"])
    assert loaded == Settings(name="m", size=8, weights=Weights(9.0, 1.0))


def test_arrays_of_tables(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "[[phases]]\nclips = 1\n[phases.weights]\nedge = 0\n[[phases]]\nclips = 2\n")
    assert load_config(Settings, file).phases == (Phase(1, Weights(edge=0.0)), Phase(2))


def test_an_element_of_an_array_is_reached_by_its_number(tmp_path: Path) -> None:
    base = write(tmp_path / "a.toml", "[[phases]]\nclips = 1\n[phases.weights]\npixel = 3\n[[phases]]\nclips = 2\n")
    file = write(tmp_path / "b.toml", f'extends = "{base}"\n[phases.1]\nclips = 5\n')
    loaded = load_config(Settings, file, ["phases.0.clips=7", "phases.0.weights.edge=0"])
    assert loaded.phases == (Phase(7, Weights(3.0, 0.0)), Phase(5))
    fails("--set phases.2.clips: 'phases' has elements 0 to 1, not '2'", file, ["phases.2.clips=1"])
    fails("--set phases.0.clip: unknown key 'phases[0].clip' (did you mean 'clips'?)", file, ["phases.0.clip=1"])
    assert load_config(Defaults, None, ["phases.1.clips=7"]).phases == (Phase(1), Phase(7))
    file = write(tmp_path / "c.toml", f'extends = "{base}"\n[phases.1]\nclisp = 5\n')
    fails(f"{file}:3: unknown key 'phases[1].clisp' (did you mean 'clips'?)", file)


def test_an_unknown_key_names_file_line_and_the_nearest(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", '# about\n\nname = "m"\nsise = 3\n')
    fails(f"{file}:4: unknown key 'sise' (did you mean 'size'?)", file)


def test_an_unknown_key_in_a_table_or_an_element_is_found_too(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "size = 1\n[weights]\nedge = 1\npixle = 2\n")
    fails(f"{file}:4: unknown key 'weights.pixle' (did you mean 'pixel'?)", file)
    file = write(tmp_path / "b.toml", "[[phases]]\nclips = 1\n[[phases]]\n[phases.weights]\nedgy = 2\n")
    fails(f"{file}:5: unknown key 'phases[1].weights.edgy' (did you mean 'edge'?)", file)


def test_a_table_in_place_of_a_value_is_said_where_it_was_given(tmp_path: Path) -> None:
    file = write(tmp_path / "a.toml", "size = 1\n[[phases]]\nclips = 1\n")
    fails("--set size.x: 'size' must be a whole number, not {'x': 99}", file, ["size.x=99"])
    fails(
        "--set phases.0.clips.x: 'phases[0].clips' must be a whole number, not {'x': 99}", file, ["phases.0.clips.x=99"]
    )


def test_an_unknown_key_in_set() -> None:
    fails("--set sise: unknown key 'sise' (did you mean 'size'?)", None, ["sise=3"])
    fails("--set zzz: unknown key 'zzz'", None, ["zzz=3"])


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("size=big", "'size' must be a whole number, not 'big'"),
        ("size=1.5", "'size' must be a whole number, not 1.5"),
        ("size=true", "'size' must be a whole number, not True"),
        ("rate=fast", "'rate' must be a number, not 'fast'"),
        ("fast=1", "'fast' must be true or false, not 1"),
        ("codec=h266", "'codec' must be one of h264, h265, not 'h266' (did you mean 'h265'?)"),
        ("scales[0]=x", "unknown key 'scales[0]' (did you mean 'scales'?)"),
        ("scales=4", "'scales' must be a list in square brackets, not 4"),
        ("scales=rtmp://h/app/SEC RET", "'scales' must be a list in square brackets, not an address"),
        ("size=rtmp://h/app/SEC RET", "'size' must be a whole number, not an address"),
        ("codec=rtmp://h/app/SEC RET", "'codec' must be one of h264, h265, not an address"),
        ("weights=rtmp://h/app/SEC RET", "'weights' is a table of settings, not an address"),
        ('scales=["a"]', "'scales[0]' must be a whole number, not 'a'"),
        ('pair=[1, "a", 2]', "'pair' must be a list of 2 in square brackets, not [1, 'a', 2]"),
        ("weights=3", "'weights' is a table of settings, not 3"),
        ("size=-1", "size must not be negative"),
    ],
)
def test_a_value_of_the_wrong_type_says_what_it_must_be(setting: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(Settings, None, [setting])
    place, _, message = str(caught.value).partition(": ")
    assert place.startswith("--set ")
    assert message == expected


def test_set_without_a_value() -> None:
    fails("--set size: expected KEY=VALUE", None, ["size"])


def test_files_that_cannot_be_read_or_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file .*/none\.toml"):
        load_config(Settings, str(tmp_path / "none.toml"))
    file = write(tmp_path / "a.toml", "size =\n")
    with pytest.raises(ConfigError, match=r"a\.toml: not TOML \(.*line 1"):
        load_config(Settings, file)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"b\.toml: cannot be read"):
        load_config(Settings, str(tmp_path / "b.toml"))


def test_a_byte_order_mark_as_windows_editors_write_it_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "m"\n', encoding="utf-8-sig")
    assert load_config(Settings, str(file)).name == "m"


def test_a_file_extends_one_beside_it_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    write(tmp_path / "mine" / "base.toml", 'name = "base"\n')
    file = write(tmp_path / "mine" / "more.toml", 'extends = "base.toml"\nsize = 3\n')
    monkeypatch.chdir(tmp_path)
    loaded = load_config(Settings, str(file))
    assert (loaded.name, loaded.size) == ("base", 3)


def test_a_file_that_extends_itself(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'extends = "{file}"\n', encoding="utf-8")
    fails(f"{file}: 'extends' leads back to itself", str(file))


def test_shipped_files_are_found_by_name_within_their_section_and_nowhere_else() -> None:
    assert find_config("live", "upscale") == config_root() / "upscale" / "live.toml"
    assert find_config("upscale/live", "train") == config_root() / "upscale" / "live.toml"
    with pytest.raises(
        ConfigError, match=r"no configuration named 'lvie' \(did you mean 'live'\?\); shipped: fast, live, quality"
    ):
        find_config("lvie", "upscale")
    with pytest.raises(ConfigError, match="no configuration named"):
        find_config("../pyproject", "upscale")


def test_nearest_names_nothing_that_is_far_away() -> None:
    assert nearest("medium", ["slow", "media"]) == " (did you mean 'media'?)"
    assert nearest("zzz", ["slow", "media"]) == ""
