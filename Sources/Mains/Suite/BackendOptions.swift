import ArgumentParser

/// Which backends a deployment is on: the options that every command about one has, `martlet up` and `martlet ops`
/// alike. Whatever neither they nor the file name is in the data folder.
public struct BackendOptions: ParsableArguments {
    @Option(help: "Configuration file (YAML); options beside it win. Deploy/config/martlet.yaml explains every key.")
    public var config: String?
    @Option(
        help: ArgumentHelp(
            "Where log \"msg\" lives, for example kafka://host:9092,host:9092. Left out: in the data folder. "
                + "With --processes log \"push\" lives there too.", valueName: "address"))
    public var log: String?
    @Option(help: "Keep presence in Redis: redis[s]://HOST:PORT[,...], redis+cluster://, redis+sentinel://HOST/MASTER.")
    public var presence: String?
    @Option(help: "Keep the hot store in Redis; addresses as for --presence.")
    public var hot: String?
    @Option(help: "File with the password of Redis: a command line is seen by everybody.")
    public var redisPasswordFile: String?
    @Option(help: "File with the password of the sentinels.")
    public var redisSentinelPasswordFile: String?
    @Option(
        help: "Authorities (PEM) that sign the certificates of rediss:// servers; those of the system when left out.")
    public var redisCa: String?
    @Option(help: "Our certificate (PEM), for rediss:// servers that want one; with --redis-key.")
    public var redisCert: String?
    @Option(help: "Key of --redis-cert (PEM).")
    public var redisKey: String?
    @Option(
        help: ArgumentHelp(
            "Keep messages in MariaDB or MySQL: mysql[s]://USER[:PASSWORD]@HOST[:PORT]/DATABASE. Several "
                + "HOST[:PORT]/DATABASE with commas are shards, in an order that never changes; they need --relational."
        ))
    public var recent: String?
    @Option(help: "Keep apps, users and the user index in MariaDB or MySQL; an address as for --recent.")
    public var relational: String?
    @Option(help: "File with the password of the databases: a command line is seen by everybody.")
    public var mysqlPasswordFile: String?
    @Option(
        help: "Authorities (PEM) that sign the certificates of mysqls:// servers; those of the system when left out.")
    public var mysqlCa: String?

    public init() {}

    /// What the file, the environment and these options say together.
    ///
    /// - Throws: `ConfigError` with everything that is wrong in the file, `StartError` for an address that is none.
    public func settings() throws -> SuiteSettings {
        var options = ConfigOptions()
        try put(into: &options)
        return SuiteSettings(try Configuration.load(file: config, options: options))
    }

    /// The options as values of the configuration's keys.
    func put(into options: inout ConfigOptions) throws {
        if let log {
            // An address says all that there is to say.
            options.replace(under: "log.kafka")
            try LogSettings(address: log).set(in: &options, "--log")
        }
        for (store, url) in [("presence", presence), ("hot", hot)] {
            if let url { options.choose(store, "redis", url) }
            options.set("\(store).redis.password-file", redisPasswordFile, "--redis-password-file")
            let sentinels = redisSentinelPasswordFile
            options.set("\(store).redis.sentinel-password-file", sentinels, "--redis-sentinel-password-file")
            options.set("\(store).redis.tls.authorities", redisCa, "--redis-ca")
            options.set("\(store).redis.tls.certificate", redisCert, "--redis-cert")
            options.set("\(store).redis.tls.key", redisKey, "--redis-key")
        }
        for (store, url) in [("recent", recent), ("relational", relational)] {
            if let url { options.choose(store, "mysql", url) }
            options.set("\(store).mysql.password-file", mysqlPasswordFile, "--mysql-password-file")
            options.set("\(store).mysql.tls.authorities", mysqlCa, "--mysql-ca")
        }
    }
}

extension ConfigOptions {
    /// `--STORE URL` puts the store elsewhere than the file says.
    mutating func choose(_ store: String, _ adapter: String, _ url: String) {
        set("\(store).adapter", adapter, "--\(store)")
        set("\(store).\(adapter).url", url, "--\(store)")
    }
}

extension LogSettings {
    func set(in options: inout ConfigOptions, _ option: String) {
        options.set("log.adapter", "kafka", option)
        let brokers = brokers.split(separator: ",").map(String.init)
        options.set("log.kafka.brokers", .list(brokers), option)
        options.set("log.kafka.topics", topics, option)
        options.set("log.kafka.development", .flag(development), option)
        options.set("log.kafka.members", lastingMembers ? "lasting" : "passing", option)
        options.set("log.kafka.let-go-ms", Int(letGoMS), option)
        options.set("log.kafka.rebalance-ms", rebalanceMS, option)
        let pairs = properties.sorted { $0.key < $1.key }.map { ConfigPair(name: $0.key, value: $0.value) }
        options.set("log.kafka.properties", .pairs(pairs), option)
    }
}
