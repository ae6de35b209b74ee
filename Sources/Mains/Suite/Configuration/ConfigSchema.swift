import KafkaLog
import MySQLStore
import NIOTransport
import RedisStore

/// One key that a configuration may have.
struct ConfigKey: Sendable {
    /// At least two levels, so that its variable cannot be one of the older MARTLET_ variables.
    let path: String
    let kind: ConfigKind
    /// What holds when nothing is said; nil: nothing.
    let standard: ConfigValue?
    /// One line, for people.
    let about: String
    var isSecret = false
    /// What is wrong with a text (each, in a list), and what to write instead.
    var judge: (@Sendable (String) -> (problem: String, cure: String)?)?

    init(
        _ path: String, _ kind: ConfigKind, _ standard: ConfigValue, _ about: String
    ) {
        self.path = path
        self.kind = kind
        self.standard = standard
        self.about = about
    }

    /// A key without a default.
    init(
        _ path: String, _ kind: ConfigKind, secret: Bool = false, _ about: String,
        judge: (@Sendable (String) -> (problem: String, cure: String)?)? = nil
    ) {
        self.path = path
        self.kind = kind
        standard = nil
        self.about = about
        isSecret = secret
        self.judge = judge
    }

    /// MARTLET_ and the path: `log.kafka.let-go-ms` is MARTLET_LOG__KAFKA__LET_GO_MS.
    var variable: String {
        "MARTLET_"
            + path.uppercased().split(separator: ".").map { $0.split(separator: "-").joined(separator: "_") }
            .joined(separator: "__")
    }
}

/// Every key of the configuration. Sections are lists; a new one is added to `all`.
enum ConfigSchema {
    static let all: [ConfigKey] =
        suite + listeners + log + redis("presence", "who is online") + redis("hot", "the newest messages")
        + mysql("recent", "messages") + mysql("relational", "apps, users, the user index and revoked tokens")
        + cluster

    private static let ports = 0...65_535

    private static let suite = [
        ConfigKey(
            "suite.data", .text, .text("./martlet-data"),
            "folder for all data that is not in another store; made when missing"),
        ConfigKey("suite.loops", .number(0...64), .number(0), "event loops for connections; 0: half of the cores"),
        ConfigKey(
            "suite.log-level", .choice(["trace", "debug", "info", "notice", "warning", "error", "critical"]),
            .text("notice"), "what is logged to standard error; the variable MARTLET_LOG wins"),
        ConfigKey("demo.app", .flag, .flag(true), "make the demo app and its four users at start"),
        ConfigKey(
            "demo.login", .choice(["local", "always", "never"]), .text("local"),
            "let the demo users in with their passwords; local: only when listeners.host is a loopback address"),
    ]

    private static let listeners = [
        ConfigKey("listeners.host", .text, .text("127.0.0.1"), "address for clients and app servers"),
        ConfigKey("listeners.http-port", .number(ports), .number(7780), "the page and the HTTP API; 0: a free one"),
        ConfigKey("listeners.ws-port", .number(ports), .number(7781), "WebSocket clients; 0: a free one"),
        ConfigKey("listeners.tcp-port", .number(ports), .number(7782), "TCP clients; 0: a free one"),
        ConfigKey(
            "listeners.rpc-port", .number(ports), .number(7783), "services of your own, in one process; 0: a free one"),
        ConfigKey("listeners.tls.certificate", .text, "certificate chain (PEM) for all three of them"),
        ConfigKey("listeners.tls.key", .text, "its key (PEM)"),
        ConfigKey(
            "listeners.forwarded-header", .text,
            "behind a proxy: the header in which it puts the client's address last, such as X-Forwarded-For"),
    ]

    private static let log = [
        ConfigKey("log.adapter", .choice(["folder", "kafka"]), .text("folder"), "where messages are accepted"),
        ConfigKey("log.kafka.brokers", .list, "HOST:PORT of some brokers", judge: address),
        ConfigKey("log.kafka.topics", .text, .text("martlet-"), "what the names of the topics begin with"),
        ConfigKey(
            "log.kafka.development", .flag, .flag(false),
            "allow a single broker: topics are made when missing, settings that lose messages are only told"),
        ConfigKey(
            "log.kafka.members", .choice(["lasting", "passing"]), .text("lasting"),
            "whether the names of instances come back after a restart"),
        ConfigKey(
            "log.kafka.let-go-ms", .number(0...1000), .number(0), "pause of a member that gives partitions back"),
        ConfigKey(
            "log.kafka.rebalance-ms", .number(10_000...600_000), .number(60_000),
            "how long a group waits for a member's answer when partitions move"),
        ConfigKey("log.kafka.username", .text, "SASL user"),
        ConfigKey("log.kafka.password", .text, secret: true, "SASL password"),
        ConfigKey("log.kafka.password-file", .text, "file whose first line is the SASL password"),
        ConfigKey("log.kafka.key-password", .text, secret: true, "password of our key, with TLS"),
        ConfigKey("log.kafka.key-password-file", .text, "file whose first line is that password"),
        ConfigKey(
            "log.kafka.properties", .pairs, "whatever else of librdkafka says how to reach the brokers"),
    ]

    /// A store that is in memory or in Redis.
    private static func redis(_ store: String, _ what: String) -> [ConfigKey] {
        [
            ConfigKey("\(store).adapter", .choice(["memory", "redis"]), .text("memory"), "where it lives: \(what)"),
            ConfigKey("\(store).redis.url", .text, "redis[s]://HOST:PORT[,...], redis+cluster://, redis+sentinel://") {
                RedisConfig(url: $0) == nil
                    ? (
                        "this is no address of Redis",
                        "Write redis://HOST:PORT, rediss:// for TLS, redis+cluster:// or "
                            + "redis+sentinel://HOST:PORT/MASTER"
                    ) : nil
            },
            ConfigKey("\(store).redis.password", .text, secret: true, "password"),
            ConfigKey("\(store).redis.password-file", .text, "file whose first line is the password"),
            ConfigKey("\(store).redis.sentinel-password", .text, secret: true, "password of the sentinels"),
            ConfigKey("\(store).redis.sentinel-password-file", .text, "file whose first line is that password"),
            ConfigKey("\(store).redis.tls.authorities", .text, "authorities (PEM); left out: those of the system"),
            ConfigKey("\(store).redis.tls.certificate", .text, "our certificate (PEM), for servers that want one"),
            ConfigKey("\(store).redis.tls.key", .text, "its key (PEM)"),
        ]
    }

    /// A store that is in the data folder or in MariaDB or MySQL.
    private static func mysql(_ store: String, _ what: String) -> [ConfigKey] {
        [
            ConfigKey("\(store).adapter", .choice(["folder", "mysql"]), .text("folder"), "where they live: \(what)"),
            ConfigKey("\(store).mysql.url", .text, "mysql[s]://USER@HOST[:PORT]/DATABASE[,HOST[:PORT]/DATABASE ...]") {
                MySQLConfig(url: $0) == nil
                    ? (
                        "this is no address of a database",
                        "Write mysql://USER@HOST[:PORT]/DATABASE, or mysqls:// for TLS"
                    ) : nil
            },
            ConfigKey("\(store).mysql.password", .text, secret: true, "password"),
            ConfigKey("\(store).mysql.password-file", .text, "file whose first line is the password"),
            ConfigKey("\(store).mysql.tls.authorities", .text, "authorities (PEM); left out: those of the system"),
            ConfigKey("\(store).mysql.tls.certificate", .text, "our certificate (PEM), for servers that want one"),
            ConfigKey("\(store).mysql.tls.key", .text, "its key (PEM)"),
        ]
    }

    private static func address(_ text: String) -> (problem: String, cure: String)? {
        PeerAddress(text) == nil ? ("this is no address: \(text)", "Write HOST:PORT") : nil
    }

    private static let cluster =
        [
            ConfigKey("cluster.listen", .text, .text("127.0.0.1"), "address for the other services and for /health"),
            ConfigKey("cluster.port", .number(1...65_535), .number(7790), "port for the other services"),
            ConfigKey("cluster.health-port", .number(ports), .number(7791), "port of GET /health; 0: none"),
            ConfigKey("cluster.name", .text, "instance name behind the role; left out: the host's name"),
            ConfigKey("cluster.secret", .text, secret: true, "what the processes prove to each other"),
            ConfigKey("cluster.secret-file", .text, "file whose first line is the secret"),
            ConfigKey("cluster.admin-key", .text, secret: true, "key of the API's administrators"),
            ConfigKey("cluster.admin-key-file", .text, "file whose first line is that key"),
        ]
        + Topology.plan.map { role, _ in
            ConfigKey(
                "cluster.services.\(role)", .list, "HOST:PORT of \(role); all addresses of a name", judge: address)
        }

    private static let byPath = Dictionary(uniqueKeysWithValues: all.map { ($0.path, $0) })
    private static let byVariable = Dictionary(uniqueKeysWithValues: all.map { ($0.variable, $0) })

    static func key(_ path: String) -> ConfigKey? { byPath[path] }

    static func key(variable: String) -> ConfigKey? { byVariable[variable] }

    /// The names that may follow a path, in the schema's order; none for a key.
    static func names(under path: String) -> [String] {
        let prefix = path.isEmpty ? "" : path + "."
        var names: [String] = []
        for key in all where key.path.hasPrefix(prefix) {
            let name = String(key.path.dropFirst(prefix.count).prefix { $0 != "." })
            if !names.contains(name) { names.append(name) }
        }
        return names
    }
}

/// Finds what somebody meant.
enum Nearest {
    /// The word that is nearest to this one, if any is near.
    static func to(_ word: String, of words: [String]) -> String? {
        let near = words.map { ($0, distance(Array(word.utf8), Array($0.utf8))) }
            .filter { $0.1 <= max(1, min(word.utf8.count, $0.0.utf8.count) / 2) }
        return near.min { $0.1 < $1.1 }?.0
    }

    /// Letters to be put in, taken out or changed (Levenshtein 1966).
    static func distance(_ one: [UInt8], _ other: [UInt8]) -> Int {
        var row = Array(0...other.count)
        for (index, letter) in one.enumerated() {
            var before = row[0]
            row[0] = index + 1
            for place in other.indices {
                let above = row[place + 1]
                row[place + 1] = letter == other[place] ? before : 1 + min(before, above, row[place])
                before = above
            }
        }
        return row[other.count]
    }
}
