CREATE TABLE quota_landing (
    account String, day Date, meter String, package String, quota UInt64, used UInt64, remaining UInt64,
    utilization Decimal(18, 4), workspaces Array(Tuple(workspace String, demand UInt64, covered UInt64)),
    burn_rate_per_minute UInt64, exhausts_at Nullable(DateTime64(6, 'UTC')), version UInt64, at DateTime64(6, 'UTC')
) ENGINE = Null;

-- Every version, for burn-down charts.
CREATE TABLE quota_history (
    account LowCardinality(String), day Date, meter LowCardinality(String), package String, quota UInt64, used UInt64,
    remaining UInt64, utilization Decimal(18, 4), burn_rate_per_minute UInt64,
    exhausts_at Nullable(DateTime64(6, 'UTC')), version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (account, day, meter, package, version);

CREATE MATERIALIZED VIEW quota_history_mv TO quota_history AS
SELECT account, day, meter, package, quota, used, remaining, utilization, burn_rate_per_minute, exhausts_at, version, at
FROM quota_landing;

-- The newest status as a whole: a workspace that its package lists no more is in no newest status, and so in no allocation.
CREATE TABLE quota_newest (
    account LowCardinality(String), day Date, meter LowCardinality(String), package String,
    workspaces Array(Tuple(workspace String, demand UInt64, covered UInt64)), version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day) ORDER BY (account, day, meter, package);

CREATE MATERIALIZED VIEW quota_newest_mv TO quota_newest AS
SELECT account, day, meter, package, workspaces, version, at FROM quota_landing;

CREATE VIEW allocations AS
SELECT account, day, meter, package, w.workspace AS workspace, w.demand AS demand, w.covered AS covered, version, at
FROM (SELECT * FROM quota_newest FINAL) ARRAY JOIN workspaces AS w;
