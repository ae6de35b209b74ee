import Ports
import Wire

/// The layouts of the databases, for whoever looks after them: which versions a database has, and which this program
/// would make. Blocks; any thread, one at a time.
public enum MySQLLayouts {
    /// A set of tables with versions of its own.
    public enum Family: String, Sendable, CaseIterable {
        /// A shard of the recent store.
        case recent
        /// Apps, users, the user index and the map of the shards.
        case relational

        var steps: [MigrationStep] { self == .recent ? RecentSchema.steps : RelationalSchema.steps }
    }

    /// What a database says of its layout, beside what this program knows.
    public struct Report: Sendable, Equatable {
        /// The last version that the database has; 0: it has no tables of this family.
        public let applied: Int
        /// The last version that this program makes.
        public let known: Int
        /// Versions that are missing, in the order in which they are made.
        public let pending: [Int]
        /// Statements of the missing versions, for a dry run.
        public let statements: [String]
        /// Why the database cannot be used at all, in one sentence; nil: it can.
        public let refusal: String?
    }

    /// Looks and changes nothing.
    ///
    /// - Throws: one sentence: no way in, no such database, not reachable.
    public static func report(
        _ family: Family, at address: MySQLAddress, _ config: MySQLConfig
    ) throws(StoreOpenError) -> Report {
        let session = MySQLSession(address, config)
        do throws(MySQLError) {
            return try session.reading { (connection) throws(MySQLError) in
                let applied = try Migrations.applied(family.rawValue, on: connection)
                let plan = MigrationPlan.of(family.rawValue, family.steps, applied: applied)
                var pending: [Int] = []
                var refusal: String?
                switch plan {
                case .run(let versions): pending = versions
                case .refuse(let why): refusal = why
                }
                return Report(
                    applied: applied.last?.version ?? 0, known: family.steps.count, pending: pending,
                    statements: pending.flatMap { family.steps[$0 - 1].statements }, refusal: refusal)
            }
        } catch { throw error.opening(address) }
    }

    /// Makes what is missing, and the months of message rows to come. Twice is the same as once, also at the same time
    /// as another program; services may run.
    ///
    /// - Throws: one sentence; a database of another version is left as it is.
    public static func apply(
        _ family: Family, at address: MySQLAddress, _ config: MySQLConfig
    ) throws(StoreOpenError) {
        switch family {
        case .recent: try MySQLRecentStore(address, config).open()
        case .relational: try MySQLUserStore(address, config).open()
        }
    }
}
