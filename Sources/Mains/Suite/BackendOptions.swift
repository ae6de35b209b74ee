import ArgumentParser

/// Which backends a deployment is on: the options that every command about one has, `martlet up` and `martlet ops`
/// alike. Whatever is left out is in the data folder.
public struct BackendOptions: ParsableArguments {
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

    /// What is in Redis.
    public var redis: RedisSettings {
        var redis = RedisSettings()
        redis.presence = presence
        redis.hot = hot
        redis.passwordFile = redisPasswordFile
        redis.sentinelPasswordFile = redisSentinelPasswordFile
        redis.authorities = redisCa
        redis.certificate = redisCert
        redis.key = redisKey
        return redis
    }

    /// What is in databases.
    public var mysql: MySQLSettings {
        MySQLSettings(recent: recent, relational: relational, passwordFile: mysqlPasswordFile, authorities: mysqlCa)
    }
}
