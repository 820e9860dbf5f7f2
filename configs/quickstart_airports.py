"""What a place means for flying there: the functions of quickstart.yaml.

The air is the International Standard Atmosphere up to 11 km, the day length follows from latitude and the sun's declination.
"""

from __future__ import annotations

from math import acos, cos, degrees, radians, sin
from typing import TypedDict

METRES_PER_FOOT = 0.3048
SEA_LEVEL_HPA = 1013.25
SEA_LEVEL_KELVIN = 288.15
KELVIN_PER_METRE = 0.0065
PRESSURE_EXPONENT = 5.25588
"""g·M / (R·L) of the standard atmosphere."""
TROPOPAUSE_FT = 36_089

TILT_DEGREES = 23.44
"""Declination of the sun at the June solstice."""
HORIZON_DEGREES = -0.833
"""Height of the sun's centre when its upper edge rises, as refraction shows it."""


class Air(TypedDict):
    """The air over a runway."""

    pressure_hpa: float
    density_ratio: float
    density_altitude_ft: float
    takeoff_roll_ratio: float


class Daylight(TypedDict):
    """How long the sun is up on the solstices."""

    june_hours: float
    december_hours: float
    has_polar_night: bool


def runway_air(elevation_ft: float, warmer_kelvin: float = 0.0) -> Air:
    """The air at an elevation, on a day that is `warmer_kelvin` warmer than the standard day.

    `density_ratio` is 1 at sea level on a standard day. `density_altitude_ft` is where a standard day has air this thin.
    `takeoff_roll_ratio` is how much longer a take-off roll gets: thin air costs the wing speed and the engine thrust,
    so it grows with the square.

    Raises:
        ValueError: the elevation is above the tropopause, where other formulas hold.

    Example:
        >>> round(runway_air(5000)["pressure_hpa"], 2)
        843.07
    """
    if elevation_ft > TROPOPAUSE_FT:
        raise ValueError(f"elevation_ft must be ≤ {TROPOPAUSE_FT}, where the troposphere ends, got {elevation_ft:g}")
    standard_kelvin = SEA_LEVEL_KELVIN - KELVIN_PER_METRE * elevation_ft * METRES_PER_FOOT
    pressure_ratio = (standard_kelvin / SEA_LEVEL_KELVIN) ** PRESSURE_EXPONENT
    density_ratio = pressure_ratio * SEA_LEVEL_KELVIN / (standard_kelvin + warmer_kelvin)
    density_metres = SEA_LEVEL_KELVIN / KELVIN_PER_METRE * (1 - density_ratio ** (1 / (PRESSURE_EXPONENT - 1)))
    return {
        "pressure_hpa": round(SEA_LEVEL_HPA * pressure_ratio, 2),
        "density_ratio": round(density_ratio, 4),
        "density_altitude_ft": round(density_metres / METRES_PER_FOOT, 1),
        "takeoff_roll_ratio": round(density_ratio**-2, 2),
    }


def daylight(latitude: float) -> Daylight:
    """Daylight at a latitude in degrees, from the sun's upper edge rising to its setting.

    Example:
        >>> daylight(0.0)
        {'june_hours': 12.1, 'december_hours': 12.1, 'has_polar_night': False}
    """
    june, december = (_daylight_hours(latitude, declination) for declination in (TILT_DEGREES, -TILT_DEGREES))
    return {"june_hours": round(june, 1), "december_hours": round(december, 1), "has_polar_night": min(june, december) == 0}


def _daylight_hours(latitude: float, declination: float) -> float:
    phi, delta = radians(latitude), radians(declination)
    cosine = (sin(radians(HORIZON_DEGREES)) - sin(phi) * sin(delta)) / (cos(phi) * cos(delta))
    # Beyond ±1 the sun never sets, or never rises.
    hour_angle = acos(min(1.0, max(-1.0, cosine)))
    return degrees(hour_angle) / 7.5
