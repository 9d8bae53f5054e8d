CREATE TABLE alerts (
    id String, account LowCardinality(String), day Date, kind LowCardinality(String), meter LowCardinality(String),
    package Nullable(String), threshold Nullable(Decimal(18, 4)), value UInt64, quota UInt64, version UInt64,
    at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (account, day, id);

CREATE TABLE statements (
    account LowCardinality(String), day Date, revision UInt32, replaces Nullable(UInt32), currency LowCardinality(String),
    amount Decimal(38, 2),
    lines Array(Tuple(workspace String, meter String, basis String, retention_days Nullable(UInt32), quantity UInt64,
        units Decimal(38, 2), price Decimal(18, 6), amount Decimal(38, 8))),
    version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day) ORDER BY (account, day, revision);

CREATE TABLE dead_letters_landing (
    topic String, partition UInt32, offset UInt64, `index` Nullable(Int32), key Nullable(String), reason String,
    message String, value String, at DateTime64(6, 'UTC')
) ENGINE = Null;

CREATE TABLE dead_letters (
    topic LowCardinality(String), partition UInt32, offset UInt64, `index` Int32, key Nullable(String),
    reason LowCardinality(String), message String, value String, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY (topic, partition, offset, `index`);

CREATE MATERIALIZED VIEW dead_letters_mv TO dead_letters AS
SELECT topic, partition, offset, ifNull(`index`, -1) AS `index`, key, reason, message, value, at FROM dead_letters_landing;
