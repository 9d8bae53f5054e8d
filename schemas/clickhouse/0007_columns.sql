-- The event columns of a usage batch are little-endian numbers in base64: reading them so costs a fraction.
ALTER TABLE usage_landing MODIFY COLUMN at String, MODIFY COLUMN quantities String, MODIFY COLUMN micros String,
    MODIFY COLUMN offsets String, MODIFY COLUMN indexes String;

ALTER TABLE usage_events_mv MODIFY QUERY
SELECT account, series[place + 1].2 AS day, series[place + 1].1 AS workspace, series[place + 1].3 AS meter,
    series[place + 1].4 AS retention_days, source, id, quantity, fromUnixTimestamp64Micro(micro, 'UTC') AS time,
    partition, offset, `index`, log_offset
FROM usage_landing
ARRAY JOIN reinterpret(base64Decode(at), 'Array(UInt16)') AS place,
    reinterpret(base64Decode(quantities), 'Array(UInt64)') AS quantity, sources AS source, ids AS id,
    reinterpret(base64Decode(micros), 'Array(Int64)') AS micro,
    reinterpret(base64Decode(offsets), 'Array(UInt64)') AS offset,
    reinterpret(base64Decode(indexes), 'Array(Int32)') AS `index`;
