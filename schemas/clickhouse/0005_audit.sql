-- Where a value stood in `account-events`: the order in which the ledger counted. Rows of before this file have 0.
-- It ends the key, so that the same place of a usage topic that an operator made anew is another row.
ALTER TABLE usage_landing ADD COLUMN IF NOT EXISTS log_offset UInt64;

ALTER TABLE usage_events ADD COLUMN IF NOT EXISTS log_offset UInt64,
    MODIFY ORDER BY (account, day, workspace, meter, partition, offset, `index`, log_offset);

ALTER TABLE usage_events_mv MODIFY QUERY
SELECT account, series[place + 1].2 AS day, series[place + 1].1 AS workspace, series[place + 1].3 AS meter,
    series[place + 1].4 AS retention_days, source, id, quantity, fromUnixTimestamp64Micro(micro, 'UTC') AS time,
    partition, offset, `index`, log_offset
FROM usage_landing
ARRAY JOIN at AS place, quantities AS quantity, sources AS source, ids AS id, micros AS micro, offsets AS offset,
    indexes AS `index`;

-- An operator's corrections as they stand in the log. The ledger refuses some (`dead_letters` has their offset); of those with
-- the same id that it takes, the first one counts.
CREATE TABLE corrections (
    id String, account LowCardinality(String), day Date, workspace String, meter LowCardinality(String),
    retention_days UInt32, quantity Int64, reason String, operator String, at DateTime64(6, 'UTC'), log_offset UInt64
) ENGINE = ReplacingMergeTree ORDER BY (account, id, log_offset);
