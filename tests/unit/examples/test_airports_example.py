"""The functions of the quickstart, against figures from tables and almanacs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quickstart_airports import daylight, runway_air


@pytest.mark.parametrize(
    ("elevation_ft", "pressure_hpa", "density_ratio"),
    [(0, 1013.25, 1.0), (5000, 843.07, 0.8617), (10_000, 696.82, 0.7385), (36_000, 227.29, 0.2981)],
)
def test_standard_day_matches_the_icao_table(elevation_ft: float, pressure_hpa: float, density_ratio: float) -> None:
    """The air of a standard day is that of ICAO document 7488."""
    air = runway_air(elevation_ft)
    assert air["pressure_hpa"] == pytest.approx(pressure_hpa, abs=0.03)
    assert air["density_ratio"] == pytest.approx(density_ratio, abs=0.0001)


@given(st.floats(-1500, 36_000))
def test_density_altitude_of_a_standard_day_is_the_elevation(elevation_ft: float) -> None:
    """Density altitude inverts the formula for density."""
    assert runway_air(elevation_ft)["density_altitude_ft"] == pytest.approx(elevation_ft, abs=0.06)


@given(st.floats(-1500, 15_000), st.floats(1, 40))
def test_warm_air_is_thinner(elevation_ft: float, warmer_kelvin: float) -> None:
    """A warm day makes the runway feel higher and the take-off roll longer, at the same pressure."""
    standard, warm = runway_air(elevation_ft), runway_air(elevation_ft, warmer_kelvin)
    assert warm["pressure_hpa"] == standard["pressure_hpa"]
    assert warm["density_altitude_ft"] > standard["density_altitude_ft"]
    assert warm["takeoff_roll_ratio"] >= standard["takeoff_roll_ratio"]


def test_elevation_above_the_troposphere_is_refused() -> None:
    """The formula would give wrong figures there."""
    with pytest.raises(ValueError, match="elevation_ft must be ≤ 36089"):
        runway_air(40_000)


@pytest.mark.parametrize(
    ("place", "latitude", "june_hours", "december_hours"),
    [("Quito", -0.14, 12.1, 12.1), ("London", 51.5, 16.6, 7.8), ("Sydney", -33.9, 9.9, 14.4), ("Murmansk", 68.97, 24.0, 0.0)],
)
def test_daylight_matches_almanacs(place: str, latitude: float, june_hours: float, december_hours: float) -> None:
    """The longest and shortest days of places on both hemispheres and beyond the polar circle."""
    light = daylight(latitude)
    assert light["june_hours"] == pytest.approx(june_hours, abs=0.1), place
    assert light["december_hours"] == pytest.approx(december_hours, abs=0.1), place


@given(st.floats(-90, 90))
def test_hemispheres_mirror_each_other(latitude: float) -> None:
    """June in the north is December in the south, up to the poles themselves."""
    north, south = daylight(latitude), daylight(-latitude)
    assert north["june_hours"] == south["december_hours"]
    assert north["has_polar_night"] == (min(north["june_hours"], north["december_hours"]) == 0)
