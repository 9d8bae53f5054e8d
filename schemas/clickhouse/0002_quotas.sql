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

CREATE TABLE allocations_newest (
    account LowCardinality(String), day Date, meter LowCardinality(String), package String, workspace String,
    demand UInt64, covered UInt64, version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day) ORDER BY (account, day, meter, package, workspace);

CREATE MATERIALIZED VIEW allocations_mv TO allocations_newest AS
SELECT account, day, meter, package, w.workspace AS workspace, w.demand AS demand, w.covered AS covered, version, at
FROM quota_landing ARRAY JOIN workspaces AS w;

CREATE VIEW allocations AS SELECT * FROM allocations_newest FINAL;
