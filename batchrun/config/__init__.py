"""The job file: YAML with positions ⇄ the checked dataclasses of `batchrun.core.job`, and its JSON Schema and reference."""

from batchrun.config.job import effective_job, load_job, locate
from batchrun.config.overrides import values_of, with_inputs, with_outputs
from batchrun.config.reference import reference_page
from batchrun.config.schema import job_schema
from batchrun.config.starter import starter_job

__all__ = ["effective_job", "job_schema", "load_job", "locate", "reference_page", "starter_job", "values_of", "with_inputs", "with_outputs"]
