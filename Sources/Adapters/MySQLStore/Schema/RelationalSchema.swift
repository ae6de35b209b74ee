/// The tables of the relational database: apps, users, the user index, and where the buckets of the recent store are.
enum RelationalSchema {
    static let family = "relational"
    private static let text = "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"

    static let steps = [
        MigrationStep(statements: [
            """
            CREATE TABLE IF NOT EXISTS apps(
                id VARBINARY(64) NOT NULL PRIMARY KEY, name TEXT \(text) NOT NULL, suspended TINYINT UNSIGNED NOT NULL,
                multi_session TINYINT UNSIGNED NOT NULL, version BIGINT UNSIGNED NOT NULL,
                ticket BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS app_keys(
                app VARBINARY(64) NOT NULL, place INT UNSIGNED NOT NULL, id VARBINARY(255) NOT NULL,
                secret VARBINARY(1024) NOT NULL, retired TINYINT UNSIGNED NOT NULL, PRIMARY KEY(app, place))
                ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS users(
                no BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, app VARBINARY(64) NOT NULL,
                id VARBINARY(255) NOT NULL, version BIGINT UNSIGNED NOT NULL DEFAULT 0,
                token_epoch BIGINT UNSIGNED NOT NULL DEFAULT 0, present TINYINT UNSIGNED NOT NULL DEFAULT 0,
                nickname TEXT \(text) NOT NULL, avatar TEXT \(text) NOT NULL, custom MEDIUMBLOB NOT NULL,
                UNIQUE KEY by_id(app, id)) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS entries(
                user BIGINT UNSIGNED NOT NULL, conversation VARBINARY(255) NOT NULL, version BIGINT UNSIGNED NOT NULL,
                joined BIGINT UNSIGNED NOT NULL, left_seq BIGINT UNSIGNED NOT NULL, cleared BIGINT UNSIGNED NOT NULL,
                read_seq BIGINT UNSIGNED NOT NULL, delivered BIGINT UNSIGNED NOT NULL, pinned TINYINT UNSIGNED NOT NULL,
                muted TINYINT UNSIGNED NOT NULL, draft TEXT \(text) NOT NULL, peer VARBINARY(255) NOT NULL,
                PRIMARY KEY(user, conversation)) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS deployment(
                one TINYINT UNSIGNED NOT NULL PRIMARY KEY, id VARBINARY(64) NOT NULL) ENGINE=InnoDB
            """,
            """
            CREATE TABLE IF NOT EXISTS shard_map(
                bucket INT UNSIGNED NOT NULL PRIMARY KEY, shard INT UNSIGNED NOT NULL, version BIGINT UNSIGNED NOT NULL)
                ENGINE=InnoDB
            """,
        ])
    ]
}
