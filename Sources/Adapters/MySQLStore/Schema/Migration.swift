import Identity
import RPC

/// One version of a layout: statements that may be run twice, because MariaDB commits each by itself and a program may
/// die between two of them. Never change one that was released: its checksum is in every database that has it.
struct MigrationStep: Sendable {
    let statements: [String]

    var checksum: UInt64 { StableHash.of(statements.joined(separator: ";\n")) }
}

/// What has to be done to a database, decided from what it says of itself.
enum MigrationPlan: Equatable {
    /// The versions to be made, in order; none when it is up to date.
    case run([Int])
    /// One sentence for whoever starts the program.
    case refuse(String)

    /// - Parameter applied: version and checksum of each step that the database has, by version.
    static func of(_ family: String, _ steps: [MigrationStep], applied: [(version: Int, checksum: UInt64)]) -> Self {
        for (index, step) in applied.enumerated() {
            guard step.version == index + 1 else { return .refuse("version \(index + 1) of \(family) is missing") }
            guard index < steps.count else {
                return .refuse(
                    "it was written by a newer Martlet (version \(applied.count) of \(family), this one knows "
                        + "\(steps.count)); use that version")
            }
            guard step.checksum == steps[index].checksum else {
                return .refuse("version \(step.version) of \(family) is not the one that this Martlet makes")
            }
        }
        return .run(Array(applied.count..<steps.count).map { $0 + 1 })
    }
}

/// Brings databases to the layout that this program knows: forwards only, one program at a time, while services run.
enum Migrations {
    /// How long another program's migration is waited for.
    private static let lockWaitS = 60

    /// Checks the layout and makes what is missing.
    static func apply(_ family: String, _ steps: [MigrationStep], on connection: MySQLConnection) throws(MySQLError) {
        if case .run(let missing) = try plan(family, steps, on: connection), missing.isEmpty { return }
        try locked("martlet.schema.\(family)", waitS: lockWaitS, on: connection) { () throws(MySQLError) in
            try connection.run(
                """
                CREATE TABLE IF NOT EXISTS schema_version(
                    family VARBINARY(32) NOT NULL, version INT NOT NULL, checksum BIGINT UNSIGNED NOT NULL,
                    applied_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, PRIMARY KEY(family, version)) ENGINE=InnoDB
                """)
            // Somebody else may have been here while we waited.
            switch try plan(family, steps, on: connection) {
            case .refuse(let why): throw MySQLError(.refused, why)
            case .run(let missing):
                for version in missing {
                    for statement in steps[version - 1].statements { try connection.run(statement) }
                    var values = MySQLValues()
                    values.add(family)
                    values.add(UInt64(version))
                    values.add(steps[version - 1].checksum)
                    try connection.execute(
                        "INSERT INTO schema_version(family, version, checksum) VALUES(?, ?, ?)", values)
                }
            }
        }
    }

    private static func plan(
        _ family: String, _ steps: [MigrationStep], on connection: MySQLConnection
    ) throws(MySQLError) -> MigrationPlan {
        let plan = MigrationPlan.of(family, steps, applied: try applied(family, on: connection))
        if case .refuse(let why) = plan { throw MySQLError(.refused, why) }
        return plan
    }

    /// The versions that a database has, in their order; none when it was never used.
    static func applied(
        _ family: String, on connection: MySQLConnection
    ) throws(MySQLError) -> [(version: Int, checksum: UInt64)] {
        let exists = try connection.number(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND "
                + "table_name = 'schema_version'")
        guard exists == 1 else { return [] }
        var applied: [(version: Int, checksum: UInt64)] = []
        var values = MySQLValues()
        values.add(family)
        try connection.query(
            "SELECT version, checksum FROM schema_version WHERE family = ? ORDER BY version", values
        ) { row in applied.append((Int(row.uint(0)), row.uint(1))) }
        return applied
    }

    /// Runs the work while holding a name of this database that only one connection may hold.
    static func locked<T>(
        _ name: String, waitS: Int, on connection: MySQLConnection, _ work: () throws(MySQLError) -> T
    ) throws(MySQLError) -> T {
        // Names of locks belong to the whole server.
        let sql = "SELECT GET_LOCK(concat(?, '@', left(md5(database()), 16)), ?)"
        var values = MySQLValues()
        values.add(name)
        values.add(UInt64(waitS))
        guard try connection.number(sql, values) == 1 else {
            throw MySQLError(.conflict, "another program holds \(name)")
        }
        defer {
            var values = MySQLValues()
            values.add(name)
            // A broken connection has given the lock back already.
            _ = try? connection.number("SELECT RELEASE_LOCK(concat(?, '@', left(md5(database()), 16)))", values)
        }
        return try work()
    }
}
