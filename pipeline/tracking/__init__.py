"""MLflow: a view of the storage, with a run for each variant and a child run for each stage.

Stages write logs, scores and files into their outputs (`pipeline.log`), and none of them knows MLflow.
The driver reads what is new and publishes it, in a thread that nobody waits for. All that is
published comes from the storage, so it can be published again at any time, and to another server;
what MLflow has already is left out.
"""
