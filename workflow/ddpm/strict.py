"""What every document of this project has in common."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown keys are errors, and values do not change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True)
