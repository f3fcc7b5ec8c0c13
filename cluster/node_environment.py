"""Print the variables of a node on AWS from the Parameter Store, for its shell to evaluate.

    settings="$(python cluster/node_environment.py /dkm-pipeline)" && eval "$settings"

The parameter /dkm-pipeline/RAY_AUTH_TOKEN becomes the variable RAY_AUTH_TOKEN, and so on. So secrets
are stored encrypted in one place, which the node's role can read, and in no file of the cluster.
"""

import re
import shlex
import sys

import boto3

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")
REQUIRED = "RAY_AUTH_TOKEN"


def main(folder: str) -> None:
    """Print one `export` for each parameter right below `folder`.

    Raises:
        SystemExit: there is no token, or a name is not that of a variable.
    """
    pages = boto3.client("ssm").get_paginator("get_parameters_by_path")
    variables = {
        parameter["Name"].rpartition("/")[2]: parameter["Value"]
        for page in pages.paginate(Path=folder, WithDecryption=True)
        for parameter in page["Parameters"]
    }
    if REQUIRED not in variables:
        sys.exit(
            f"{folder} contains no {REQUIRED}: store the cluster's token there (cluster/README.md)"
        )
    for name, value in sorted(variables.items()):
        if not VARIABLE.fullmatch(name):
            sys.exit(
                f"{folder}/{name} is not the name of a variable (capitals, digits and _): rename it"
            )
        print(f"export {name}={shlex.quote(value.strip())}")  # noqa: T201 - for the shell


if __name__ == "__main__":
    main(sys.argv[1])
