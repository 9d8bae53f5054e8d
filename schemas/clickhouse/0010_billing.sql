-- What became of orders, amendments and money that came in.
CREATE TABLE orders (
    account LowCardinality(String), id String, accepted Bool, faults Array(Tuple(code String, message String)),
    version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY (account, id, version);

-- Money that moved; the postings of a row sum to zero. At most one row an account event.
CREATE TABLE wallet_transactions (
    id String, account LowCardinality(String), reference String, currency LowCardinality(String),
    postings Array(Tuple(account String, amount Decimal(38, 2))), version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree ORDER BY (account, version);

CREATE TABLE wallets_newest (
    account LowCardinality(String), currency LowCardinality(String), balances Map(String, Decimal(38, 2)),
    owes_since Nullable(Date), locked Bool, version UInt64, at DateTime64(6, 'UTC')
) ENGINE = ReplacingMergeTree(version) ORDER BY account;

CREATE VIEW wallets AS SELECT * FROM wallets_newest FINAL;
