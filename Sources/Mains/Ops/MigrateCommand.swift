import ArgumentParser
import MySQLStore
import Ports

/// `martlet ops migrate`
struct MigrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate", abstract: "Show the layout of every database, and bring it up to date.",
        discussion: """
            Layouts go forwards only, and each version is checked by a checksum. Without --apply nothing is changed;
            --dry-run shows the statements as well. Services may run: every start does the same as --apply, and whoever
            comes second waits and finds it done. Exit code 1 when a database cannot be used with this program.
            """)

    @Flag(help: "Make the versions that are missing.")
    var apply = false
    @Flag(help: "Show the statements and run none.")
    var dryRun = false
    @OptionGroup var options: OpsOptions

    init() {}

    func validate() throws {
        guard !(apply && dryRun) else { throw ValidationError("--apply and --dry-run exclude each other") }
    }

    /// One database of a deployment.
    struct Database: Encodable, Equatable {
        var family: String
        var address: String
        /// Version that it has; 0: none.
        var applied: Int
        /// Version that this program makes.
        var known: Int
        /// Versions that are missing.
        var pending: [Int]
        /// With --dry-run only.
        var statements: [String]?
        /// Why it cannot be used.
        var refusal: String?

        init(_ family: MySQLLayouts.Family, _ address: MySQLAddress, _ report: MySQLLayouts.Report, dryRun: Bool) {
            self.family = family.rawValue
            self.address = "\(address)"
            applied = report.applied
            known = report.known
            pending = report.pending
            statements = dryRun ? report.statements : nil
            refusal = report.refusal
        }

        var state: String {
            if refusal != nil { return "cannot be used" }
            if pending.isEmpty { return "up to date" }
            return "missing: \(pending.map(String.init).joined(separator: ", "))"
        }
    }

    private struct Answer: Encodable {
        var databases: [Database]
        /// Databases that were brought up to date by this run.
        var migrated: [String]
    }

    func run() throws { try options.run { try migrate() } }

    private func migrate() throws {
        var targets: [(MySQLLayouts.Family, MySQLConfig)] = []
        let databases = try options.backends.settings().mysql
        if databases.recent != nil { targets.append((.recent, try options.shards())) }
        if databases.relational != nil { targets.append((.relational, try options.relational())) }
        guard !targets.isEmpty else {
            throw OpsError(.options, "no database is named", cure: "Name --recent, --relational or both, as for `up`")
        }
        var migrated: [String] = []
        if apply {
            for (family, config) in targets {
                for address in config.addresses {
                    let before = try MySQLLayouts.report(family, at: address, config)
                    try MySQLLayouts.apply(family, at: address, config)
                    if !before.pending.isEmpty { migrated.append("\(family.rawValue) \(address)") }
                }
            }
        }
        var found: [Database] = []
        for (family, config) in targets {
            for address in config.addresses {
                found.append(
                    Database(family, address, try MySQLLayouts.report(family, at: address, config), dryRun: dryRun))
            }
        }
        try tell(Answer(databases: found, migrated: migrated))
        if let wrong = found.first(where: { $0.refusal != nil }) {
            throw OpsError(
                .refused, "\(wrong.address) cannot be used: \(wrong.refusal ?? "")", cure: "Nothing was changed there")
        }
    }

    private func tell(_ answer: Answer) throws {
        if options.json { return Words.say(try Words.json(answer)) }
        var table = Table("family", "database", "has", "known", "state")
        for database in answer.databases {
            table.add(
                database.family, database.address, "\(database.applied)", "\(database.known)", database.state)
        }
        Words.say(table.text)
        for database in answer.databases {
            for statement in database.statements ?? [] { Words.say("-- \(database.address)\n\(statement);") }
        }
        for name in answer.migrated { Words.say("migrated: \(name)") }
    }
}
