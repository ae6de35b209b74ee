import KafkaLog
import MySQLStore
import NIOTransport
import Ports
import RedisStore

/// What keys say about one another. Each rule finds its mistakes; all are told. Pure.
struct ConfigRules {
    private let configuration: Configuration
    private var problems: [ConfigProblem] = []

    static func problems(_ configuration: Configuration) -> [ConfigProblem] {
        var rules = ConfigRules(configuration: configuration)
        rules.listeners()
        rules.log()
        for store in ["presence", "hot"] { rules.redis(store) }
        for store in ["recent", "relational"] { rules.mysql(store) }
        rules.shards()
        rules.cluster()
        return rules.problems
    }

    private init(configuration: Configuration) { self.configuration = configuration }

    /// - Parameter at: the key whose place is blamed.
    private mutating func blame(_ path: String, at other: String? = nil, _ problem: String, cure: String) {
        let place =
            configuration.place(other ?? path) ?? configuration.place(path)
            ?? ConfigPlace(source: .file, name: "the configuration")
        problems.append(ConfigProblem(place, path, problem, cure: cure))
    }

    private func isGiven(_ path: String) -> Bool { configuration.place(path) != nil }

    private mutating func together(_ one: String, _ other: String) {
        switch (isGiven(one), isGiven(other)) {
        case (true, false): blame(other, at: one, "this is missing beside \(one)", cure: "Name both files or neither")
        case (false, true): blame(one, at: other, "this is missing beside \(other)", cure: "Name both files or neither")
        default: break
        }
    }

    private mutating func secret(_ path: String) {
        guard let one = configuration.place(path), let other = configuration.place("\(path)-file"),
            one.source == other.source
        else { return }
        blame(path, "there is a \(path)-file too", cure: "Give the password or its file, not both")
    }

    /// Of two ways to keep a store, only what belongs to the chosen one may be said.
    private mutating func chosen(_ store: String, _ adapter: String, needs: String, cure: String) -> Bool {
        let section = "\(store).\(adapter)"
        guard configuration.text("\(store).adapter") == adapter else {
            for key in ConfigSchema.all where key.path.hasPrefix("\(section).") && configuration.differs(key.path) {
                // One option may be for several stores, whichever are there.
                if configuration.place(key.path)?.source == .option { continue }
                let other = configuration.text("\(store).adapter") ?? ""
                blame(
                    key.path, "\(store).adapter is \(other)",
                    cure: "Write adapter: \(adapter), or take the keys of \(section) out")
                return false
            }
            return false
        }
        if !isGiven(needs) { blame(needs, at: "\(store).adapter", "this is missing", cure: cure) }
        return isGiven(needs)
    }

    private mutating func listeners() {
        together("listeners.tls.certificate", "listeners.tls.key")
        if configuration.text("demo.login") == "always", !configuration.flag("demo.app") {
            blame("demo.login", "there are no demo users, as demo.app is false", cure: "Write never, or demo.app: true")
        }
        var taken: [Int: String] = [:]
        for name in ["http", "ws", "tcp", "rpc"].map({ "listeners.\($0)-port" }) {
            let port = configuration.number(name)
            if port != 0, let other = taken[port] {
                let given = isGiven(name) ? name : other
                blame(given, "port \(port) is \(given == name ? other : name)'s too", cure: "Write another port")
            }
            taken[port] = name
        }
    }

    private mutating func log() {
        guard chosen("log", "kafka", needs: "log.kafka.brokers", cure: "Write brokers: [HOST:PORT, ...]") else {
            return
        }
        if configuration.list("log.kafka.brokers").isEmpty {
            blame("log.kafka.brokers", "the list is empty", cure: "Write brokers: [HOST:PORT, ...]")
        }
        secret("log.kafka.password")
        secret("log.kafka.key-password")
        var settings = KafkaSettings(brokers: "", log: "msg")
        for pair in configuration.pairs("log.kafka.properties") {
            settings.properties = [pair.name: pair.value]
            do throws(StoreOpenError) { try settings.checkProperties() } catch {
                blame(
                    "log.kafka.properties", error.message, cure: "What may be set begins with security., sasl. or ssl.")
            }
            let instead = [
                "sasl.username": "username", "sasl.password": "password", "ssl.key.password": "key-password",
            ]
            if let key = instead[pair.name], isGiven("log.kafka.\(key)") {
                blame("log.kafka.properties", "\(pair.name) is log.kafka.\(key)'s", cure: "Say it once")
            }
        }
    }

    private mutating func redis(_ store: String) {
        let section = "\(store).redis"
        let address = "Write redis://HOST:PORT; see Deploy/config/martlet.yaml for the other forms"
        guard chosen(store, "redis", needs: "\(section).url", cure: address),
            let url = configuration.text("\(section).url"), let config = RedisConfig(url: url)
        else { return }
        secret("\(section).password")
        secret("\(section).sentinel-password")
        together("\(section).tls.certificate", "\(section).tls.key")
        tls(section, isOn: config.tls != nil, scheme: "rediss")
        if config.username != nil, config.password == nil, !configuration.secret("\(section).password").isGiven {
            blame(
                "\(section).password-file", at: "\(section).url", "there is no password for the user in the url",
                cure: "Name the file that has it; as an option, --redis-password-file")
        }
    }

    private mutating func tls(_ section: String, isOn: Bool, scheme: String) {
        let files = ["authorities", "certificate", "key"].map { "\(section).tls.\($0)" }.filter(isGiven)
        guard !isOn, let file = files.first else { return }
        blame(file, "the url is without TLS", cure: "Write \(scheme)://, or take the file out")
    }

    private mutating func mysql(_ store: String) {
        let section = "\(store).mysql"
        let address = "Write mysql://USER@HOST:PORT/DATABASE"
        guard chosen(store, "mysql", needs: "\(section).url", cure: address),
            let url = configuration.text("\(section).url"), let config = MySQLConfig(url: url)
        else { return }
        secret("\(section).password")
        together("\(section).tls.certificate", "\(section).tls.key")
        tls(section, isOn: config.tls != nil, scheme: "mysqls")
    }

    private mutating func shards() {
        if let config = configuration.text("relational.mysql.url").flatMap(MySQLConfig.init(url:)),
            config.addresses.count > 1
        {
            blame("relational.mysql.url", "the relational store has one database", cure: "Write one HOST/DATABASE")
        }
        if let config = configuration.text("recent.mysql.url").flatMap(MySQLConfig.init(url:)),
            config.addresses.count > 1, configuration.text("relational.adapter") != "mysql"
        {
            blame(
                "recent.mysql.url", "several shards need a map, which the relational database holds",
                cure: "Write relational.adapter: mysql, or one HOST/DATABASE")
        }
    }

    private mutating func cluster() {
        secret("cluster.secret")
        secret("cluster.admin-key")
        let given = Topology.plan.map { "cluster.services.\($0.role)" }.filter(isGiven)
        guard let first = given.first else { return }
        let settings = SuiteSettings(configuration)
        for (role, _) in Topology.plan where !isGiven("cluster.services.\(role)") {
            let callers = Topology.plan.map(\.role).filter { Topology.needs(of: $0, settings).contains(role) }
            guard let caller = callers.first else { continue }
            blame(
                "cluster.services.\(role)", at: first, "this is missing, and \(caller) calls it",
                cure: "Write \(role): [HOST:PORT]")
        }
        for (key, least) in [("cluster.secret", minimumSecretBytes), ("cluster.admin-key", 1)] {
            let secret = configuration.secret(key)
            if !secret.isGiven {
                blame("\(key)-file", at: first, "this is missing", cure: "Name a file with a secret of your own")
            } else if let text = secret.text, text.utf8.count < least {
                blame(key, "this has less than \(least) bytes", cure: "Write a longer one")
            }
        }
        let (port, health) = (configuration.number("cluster.port"), configuration.number("cluster.health-port"))
        if port == health {
            let key = isGiven("cluster.health-port") ? "cluster.health-port" : "cluster.port"
            blame(key, "cluster.port and cluster.health-port are both \(port)", cure: "Write another port")
        }
    }
}
