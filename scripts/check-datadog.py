"""Checks DataDog dashboards against the models of DataDog's own client: each file named, or exit 1.

The client accepts what it can't read, and marks it: an unknown property, a widget of no known type.
"""

import json
import sys

from datadog_api_client.configuration import Configuration
from datadog_api_client.model_utils import (
    ModelComposed,
    ModelNormal,
    OpenApiModel,
    UnparsedObject,
    validate_and_convert_types,
)
from datadog_api_client.v1.model.dashboard import Dashboard


def parts(thing, path):
    """Every model in a dashboard, with its place."""
    yield thing, path
    if isinstance(thing, ModelComposed):
        # One of several types: what it was taken for holds the properties.
        for instance in thing._composed_instances:
            yield from parts(instance, path)
    elif isinstance(thing, OpenApiModel):
        for name, value in thing._data_store.items():
            yield from parts(value, f"{path}.{name}")
    elif isinstance(thing, list):
        for position, value in enumerate(thing):
            yield from parts(value, f"{path}.{position}")


def problems(path):
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    try:
        dashboard = validate_and_convert_types(
            content, (Dashboard,), [path], True, True, configuration=Configuration()
        )
    except Exception as error:  # of several types, all of which say what is wrong
        return [f"{path}: {error}"]
    found = []
    for part, place in parts(dashboard, path):
        if isinstance(part, UnparsedObject) or getattr(part, "_unparsed", False):
            found.append(f"{place}: not known to DataDog")
        # A model keeps properties that it doesn't know.
        elif isinstance(part, ModelNormal):
            found += [f"{place}.{name}: no such property" for name in part._data_store if name not in part.openapi_types]
    return found


if __name__ == "__main__":
    found = [problem for path in sys.argv[1:] for problem in problems(path)]
    print("\n".join(found) or f"{len(sys.argv) - 1} dashboard(s) as DataDog knows them")
    sys.exit(1 if found else 0)
