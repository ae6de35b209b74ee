import Foundation
import Runtime

/// From keys to what the suite is started with.
extension SuiteSettings {
    init(_ configuration: Configuration) {
        let host = configuration.text("listeners.host") ?? ""
        let wanted: Bool? =
            switch configuration.text("demo.login") {
            case "always": true
            case "never": false
            default: nil
            }
        let demoApp = configuration.flag("demo.app")
        self.init(
            data: configuration.text("suite.data") ?? "", host: host,
            httpPort: configuration.number("listeners.http-port"),
            webSocketPort: configuration.number("listeners.ws-port"),
            tcpPort: configuration.number("listeners.tcp-port"), rpcPort: configuration.number("listeners.rpc-port"),
            tls: configuration.text("listeners.tls.certificate").flatMap { certificate in
                configuration.text("listeners.tls.key").map { (certificate, $0) }
            },
            demoLogin: demoApp && DemoRule.isOn(host: host, wanted: wanted), loops: configuration.number("suite.loops"))
        self.demoApp = demoApp
        logLevel = configuration.text("suite.log-level") ?? "notice"
        forwardedHeader = configuration.text("listeners.forwarded-header")
        log = LogSettings(configuration)
        redis.presence = RedisPlace(configuration, "presence")
        redis.hot = RedisPlace(configuration, "hot")
        mysql.recent = MySQLPlace(configuration, "recent")
        mysql.relational = MySQLPlace(configuration, "relational")
    }
}

extension LogSettings {
    /// Nil: the logs are in the data folder.
    init?(_ configuration: Configuration) {
        guard configuration.text("log.adapter") == "kafka" else { return nil }
        self.init(
            brokers: configuration.list("log.kafka.brokers").joined(separator: ","),
            topics: configuration.text("log.kafka.topics") ?? "")
        development = configuration.flag("log.kafka.development")
        lastingMembers = configuration.text("log.kafka.members") == "lasting"
        letGoMS = UInt32(configuration.number("log.kafka.let-go-ms"))
        rebalanceMS = configuration.number("log.kafka.rebalance-ms")
        for pair in configuration.pairs("log.kafka.properties") { properties[pair.name] = pair.value }
        properties["sasl.username"] = configuration.text("log.kafka.username") ?? properties["sasl.username"]
        let password = configuration.secret("log.kafka.password")
        properties["sasl.password"] = password.text ?? properties["sasl.password"]
        passwordFile = password.file
        let keyPassword = configuration.secret("log.kafka.key-password")
        properties["ssl.key.password"] = keyPassword.text ?? properties["ssl.key.password"]
        keyPasswordFile = keyPassword.file
    }
}

extension RedisPlace {
    /// Nil: the store is in memory.
    init?(_ configuration: Configuration, _ store: String) {
        let section = "\(store).redis"
        guard configuration.text("\(store).adapter") == "redis", let url = configuration.text("\(section).url") else {
            return nil
        }
        self.init(url: url)
        let password = configuration.secret("\(section).password")
        self.password = password.text
        passwordFile = password.file
        let sentinels = configuration.secret("\(section).sentinel-password")
        sentinelPassword = sentinels.text
        sentinelPasswordFile = sentinels.file
        authorities = configuration.text("\(section).tls.authorities")
        certificate = configuration.text("\(section).tls.certificate")
        key = configuration.text("\(section).tls.key")
    }
}

extension MySQLPlace {
    /// Nil: the store is in the data folder.
    init?(_ configuration: Configuration, _ store: String) {
        let section = "\(store).mysql"
        guard configuration.text("\(store).adapter") == "mysql", let url = configuration.text("\(section).url") else {
            return nil
        }
        self.init(url: url)
        let password = configuration.secret("\(section).password")
        self.password = password.text
        passwordFile = password.file
        authorities = configuration.text("\(section).tls.authorities")
        certificate = configuration.text("\(section).tls.certificate")
        key = configuration.text("\(section).tls.key")
    }
}

/// A file whose first line is a password.
enum SecretFile {
    /// - Parameter of: whose it is, for the message.
    static func read(_ file: String, of owner: String) throws -> String {
        guard let text = try? String(contentsOfFile: file, encoding: .utf8) else {
            throw StartError("\(file) cannot be read", cure: "Put the password of \(owner) into it")
        }
        return text.split(whereSeparator: \.isNewline).first.map(String.init) ?? ""
    }
}
