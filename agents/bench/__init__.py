"""`drawdown bench`: what the README claims, measured on this machine with real servers.

    singles     bare client, stock Faust and the whole worker over the same single-event messages
    arrays      the same with 100 events a message
    workers     one worker and two
    workspaces  10, 1,000 and 100,000 workspaces
    hot         one account with 10,000 workspaces, and the same workspaces in 1,000 accounts
    latency     from an event's due time to the quota status that includes it, at half of the measured rate
    memory      10 million identities in the duplicate memory, and their recovery
    recovery    a worker's start with a state of 1 million entries out of Kafka

Loops and workers are processes of their own; nothing else runs while one is measured, but Kafka and ClickHouse share its cores.
"""
