"""The experiments: `exps_params.cfg` holds them, `exps.config` reads them into typed records."""

VERSION = "1.0.0"
