"""callbridge: an async gateway between Kafka and voice providers.

Folders are journeys, files are steps::

    commands/   FLOW 1   calls.commands ─▶ ledger ─▶ provider ─▶ calls.results
    events/     FLOW 2   webhook ─▶ calls.events
    actions/    FLOW 3   question ─▶ calls.events … calls.actions ─▶ answer
    ingress/    HTTP in          providers/  one folder a voice provider
    ledger/     what was dialled bus/        Kafka, the only home of aiokafka
    runtime/    the process      model/      the words
    client/     the consumers' library, which knows bus and model only
    demo/       the quick-start broker, simulated providers, a sample voice agent
"""

__version__ = "0.1.0"
