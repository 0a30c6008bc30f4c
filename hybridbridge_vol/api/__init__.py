"""The library: `hybridbridge_vol.open`, the tools as methods, tables of typed rows."""
