-- Raw accepted events, for audit. The sink inserts the values of `account-events` as they are; this spreads them out.
CREATE TABLE usage_landing (
    account String, partition UInt32, series Array(Tuple(String, Date, String, UInt32)), at Array(UInt32),
    quantities Array(UInt64), sources Array(String), ids Array(String), micros Array(Int64),
    offsets Array(UInt64), indexes Array(Int32)
) ENGINE = Null;

-- A row is one delivered event, duplicates included: its identity is where it stood in the usage topic.
CREATE TABLE usage_events (
    account LowCardinality(String), day Date, workspace String, meter LowCardinality(String), retention_days UInt32,
    source LowCardinality(String), id String, quantity UInt64, time DateTime64(6, 'UTC'),
    partition UInt32, offset UInt64, `index` Int32
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(day)
ORDER BY (account, day, workspace, meter, partition, offset, `index`);

CREATE MATERIALIZED VIEW usage_events_mv TO usage_events AS
SELECT account, series[place + 1].2 AS day, series[place + 1].1 AS workspace, series[place + 1].3 AS meter,
    series[place + 1].4 AS retention_days, source, id, quantity, fromUnixTimestamp64Micro(micro, 'UTC') AS time,
    partition, offset, `index`
FROM usage_landing
ARRAY JOIN at AS place, quantities AS quantity, sources AS source, ids AS id, micros AS micro, offsets AS offset,
    indexes AS `index`;

CREATE TABLE totals_landing (
    account String, day Date, version UInt64, at DateTime64(6, 'UTC'), counted UInt64, duplicates UInt64, conflicts UInt64,
    totals Array(Tuple(workspace String, meter String, retention_days UInt32, quantity UInt64, converted UInt64))
) ENGINE = Null;

CREATE TABLE usage_totals_newest (
    account LowCardinality(String), day Date, workspace String, meter LowCardinality(String), retention_days UInt32,
    quantity UInt64, converted UInt64, version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day)
ORDER BY (account, day, workspace, meter, retention_days);

CREATE MATERIALIZED VIEW usage_totals_mv TO usage_totals_newest AS
SELECT account, day, t.workspace AS workspace, t.meter AS meter, t.retention_days AS retention_days,
    t.quantity AS quantity, t.converted AS converted, version, at
FROM totals_landing ARRAY JOIN totals AS t;

CREATE VIEW usage_totals AS SELECT * FROM usage_totals_newest FINAL;

-- How the events of an account's day ended in the ledger, in running totals.
CREATE TABLE usage_outcomes_newest (
    account LowCardinality(String), day Date, counted UInt64, duplicates UInt64, conflicts UInt64, version UInt64
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day) ORDER BY (account, day);

CREATE MATERIALIZED VIEW usage_outcomes_mv TO usage_outcomes_newest AS
SELECT account, day, counted, duplicates, conflicts, version FROM totals_landing;

CREATE VIEW usage_outcomes AS SELECT * FROM usage_outcomes_newest FINAL;
