import Foundation
import Testing

@testable import MartletSuite

/// The configuration file: what it says, what is wrong with it, and who wins.
@Suite struct ConfigurationTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func sample(_ name: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent("Deploy/config/\(name)"), encoding: .utf8)
    }

    private func read(
        _ text: String, _ environment: [String: String] = [:], _ options: ConfigOptions = ConfigOptions()
    ) throws(ConfigError) -> Configuration {
        try Configuration(text: text, file: "m.yaml", environment, options)
    }

    private func mistakes(_ text: String, _ environment: [String: String] = [:]) -> [String] {
        do {
            _ = try read(text, environment)
            return []
        } catch { return error.problems.map(\.description) }
    }

    // MARK: the samples

    @Test func theSampleSaysWhatHoldsAnyway() throws {
        let sample = try read(Self.sample("martlet.yaml"))
        let nothing = try read("")
        for key in ConfigSchema.all { #expect(!sample.differs(key.path), "\(key.path) is another than the default") }
        #expect(sample.shown().split(separator: "\n").count == nothing.shown().split(separator: "\n").count)
        #expect("\(SuiteSettings(sample))" == "\(SuiteSettings(nothing))")
        // What `martlet up` was before there were files.
        let settings = SuiteSettings(nothing)
        #expect(settings.data == "./martlet-data" && settings.host == "127.0.0.1" && settings.loops == 0)
        #expect(settings.httpPort == 7780 && settings.webSocketPort == 7781)
        #expect(settings.tcpPort == 7782 && settings.rpcPort == 7783)
        #expect(settings.log == nil && settings.redis == RedisSettings() && settings.mysql == MySQLSettings())
        #expect(settings.demoApp && settings.demoLogin && settings.tls == nil && settings.logLevel == "notice")
    }

    /// By depth of indentation, comments left out: a key that only a comment names does not count.
    @Test func theSampleHasEveryKey() throws {
        var above: [String] = []
        var found: [String] = []
        for line in try Self.sample("martlet.yaml").split(separator: "\n") {
            let depth = line.prefix { $0 == " " }.count / 2
            let code = line.drop { $0 == " " }
            guard code.first != "#", let colon = code.firstIndex(of: ":") else { continue }
            above = above.prefix(depth) + [String(code[..<colon])]
            found.append(above.joined(separator: "."))
            // Of what has a default, the default has to stand there.
            if let key = ConfigSchema.key(found[found.count - 1]), let standard = key.standard {
                let value = code[code.index(after: colon)...].split(separator: "#")[0].drop { $0 == " " }
                #expect(value.hasPrefix(standard.words), "\(key.path): \(value)")
            }
        }
        for key in ConfigSchema.all { #expect(found.contains(key.path), "\(key.path) is not in martlet.yaml") }
    }

    @Test func theClusterSampleIsWholeAndEverythingInItIsReal() throws {
        let settings = SuiteSettings(try read(Self.sample("martlet.cluster.yaml")))
        #expect(settings.log?.brokers == "kafka-1:9092,kafka-2:9092,kafka-3:9092")
        #expect(settings.log?.lastingMembers == false && settings.log?.passwordFile == "/run/secrets/kafka")
        #expect(settings.log?.properties["sasl.username"] == "martlet")
        #expect(settings.redis.presence?.url == "rediss://martlet@redis-presence:6379")
        #expect(settings.redis.hot?.passwordFile == "/run/secrets/redis")
        #expect(settings.mysql.recent?.authorities == "/etc/martlet/ca.pem")
        #expect(settings.mysql.relational?.passwordFile == "/run/secrets/mariadb")
        #expect(!settings.demoApp && !settings.demoLogin && settings.forwardedHeader == "X-Forwarded-For")
        #expect(settings.isAllReal)
    }

    // MARK: the schema

    @Test func everyKeyHasAVariableOfItsOwn() {
        #expect(Set(ConfigSchema.all.map(\.variable)).count == ConfigSchema.all.count)
        for key in ConfigSchema.all {
            // One level could be one of the older variables, which have a single _ only.
            #expect(key.variable.contains("__"), "\(key.path)")
            #expect(!key.about.isEmpty && !ConfigSchema.all.contains { $0.path.hasPrefix(key.path + ".") })
            if let standard = key.standard { #expect(key.kind.read(standard.words) == standard, "\(key.path)") }
        }
        #expect(ConfigSchema.key("log.kafka.let-go-ms")?.variable == "MARTLET_LOG__KAFKA__LET_GO_MS")
        #expect(ConfigCommand.list().contains("MARTLET_LOG__KAFKA__LET_GO_MS"))
    }

    // MARK: mistakes

    @Test func allMistakesOfAFileAreTold() {
        let found = mistakes(
            """
            suite:
              data: here
              loops: 65
              colour: red
            listeners:
              http-prot: 80
              tcp-port: "7782"
              ws-port: [1]
            demo: yes
            presence:
              redis:
                url: http://nowhere
            log:
              adapter: kafak
              kafka:
                development: yes
                brokers: [a:9092, b]
            password-file: x
            """)
        #expect(
            found == [
                "m.yaml:3: suite.loops: \"65\" is not a number from 0 to 64. Write digits without quotes, from 0 "
                    + "to 64.",
                "m.yaml:4: suite.colour: there is no such key. Known here: data, loops, log-level.",
                "m.yaml:6: listeners.http-prot: there is no such key. Did you mean http-port?",
                "m.yaml:7: listeners.tcp-port: \"7782\" is not a number from 0 to 65535. Write digits without quotes, "
                    + "from 0 to 65535.",
                "m.yaml:8: listeners.ws-port: a list is not a number from 0 to 65535. Write digits without quotes, "
                    + "from 0 to 65535.",
                "m.yaml:9: demo: this is a section, not a value. Write one of these under it, each with a value: "
                    + "app, login.",
                "m.yaml:12: presence.redis.url: this is no address of Redis. Write redis://HOST:PORT, rediss:// for "
                    + "TLS, redis+cluster:// or redis+sentinel://HOST:PORT/MASTER.",
                "m.yaml:14: log.adapter: \"kafak\" is not one of folder, kafka. Write one of folder, kafka.",
                "m.yaml:16: log.kafka.development: \"yes\" is not true or false. Write true or false, without quotes.",
                "m.yaml:17: log.kafka.brokers: this is no address: b. Write HOST:PORT.",
                "m.yaml:18: password-file: there is no such key. Did you mean log.kafka.password-file? Here are "
                    + "known: suite, demo, listeners, log, presence, hot, recent, relational, cluster.",
            ])
    }

    @Test func whatIsNoYAMLIsTold() {
        let broken = mistakes("suite:\n  data: \"a\n  loops: 1\n")
        #expect(broken.count == 1 && broken[0].contains("m.yaml:") && broken[0].contains("not YAML"), "\(broken)")
        #expect(
            mistakes("log:\n  adapter: folder\nsuite:\n  loops: 1\n  loops: 2\n") == [
                "m.yaml:5: there are two keys loops in one section. Remove one of them."
            ])
        #expect(mistakes("just words").first?.contains("the file has no sections") == true)
        #expect(mistakes("# nothing\n").isEmpty && mistakes("").isEmpty && mistakes("suite:\n").isEmpty)
    }

    @Test(arguments: [
        ("listeners:\n  tls:\n    key: k.pem\n", 3, "listeners.tls.certificate: this is missing"),
        ("demo:\n  app: false\n  login: always\n", 3, "there are no demo users"),
        ("listeners:\n  http-port: 7782\n", 2, "port 7782 is listeners.tcp-port's too"),
        ("log:\n  adapter: kafka\n", 2, "log.kafka.brokers: this is missing"),
        ("log:\n  kafka:\n    brokers: a:1\n", 3, "log.adapter is folder"),
        ("log:\n  adapter: kafka\n  kafka:\n    brokers: []\n", 4, "the list is empty"),
        (
            "log:\n  adapter: kafka\n  kafka:\n    brokers: a:1\n    properties:\n      acks: 1\n", 5,
            "the Kafka property acks cannot be set"
        ),
        ("hot:\n  adapter: redis\n", 2, "hot.redis.url: this is missing"),
        ("hot:\n  redis:\n    url: redis://a\n", 3, "hot.adapter is memory"),
        ("hot:\n  adapter: redis\n  redis:\n    url: redis://u@a\n", 4, "no password for the user"),
        (
            "hot:\n  adapter: redis\n  redis:\n    url: redis://a\n    password: x\n    password-file: y\n", 5,
            "there is a hot.redis.password-file too"
        ),
        (
            "hot:\n  adapter: redis\n  redis:\n    url: redis://a\n    tls:\n      authorities: x\n", 6,
            "the url is without TLS. Write rediss://"
        ),
        (
            "recent:\n  adapter: mysql\n  mysql:\n    url: mysqls://u@a/b\n    tls:\n      key: x\n", 6,
            "recent.mysql.tls.certificate: this is missing"
        ),
        ("recent:\n  adapter: mysql\n  mysql:\n    url: mysql://u@a/b,a/c\n", 4, "several shards need a map"),
        ("relational:\n  adapter: mysql\n  mysql:\n    url: mysql://u@a/b,a/c\n", 4, "has one database"),
    ])
    func contradictions(_ text: String, _ line: Int, _ words: String) {
        let found = mistakes(text)
        #expect(found.count == 1, "\(found)")
        #expect(found.first?.hasPrefix("m.yaml:\(line): ") == true && found.first?.contains(words) == true, "\(found)")
    }

    // MARK: who wins

    @Test func variablesWinOverTheFileAndOptionsOverBoth() throws {
        let text = "listeners:\n  tcp-port: 1\n  ws-port: 2\n  http-port: 3\n"
        var options = ConfigOptions()
        options.set("listeners.http-port", 9, "--http-port")
        let found = try read(
            text, ["MARTLET_LISTENERS__WS_PORT": "5", "MARTLET_LISTENERS__HTTP_PORT": "6", "MARTLET_LOG": "info"],
            options)
        let settings = SuiteSettings(found)
        #expect(settings.tcpPort == 1 && settings.webSocketPort == 5 && settings.httpPort == 9)
        #expect(found.shown().contains("ws-port: 5  # MARTLET_LISTENERS__WS_PORT"))
        #expect(found.shown().contains("tcp-port: 1  # m.yaml:2"))
    }

    @Test func variablesAreJudgedToo() {
        #expect(
            mistakes("", ["MARTLET_LISTENERS__TCP_PROT": "1", "MARTLET_DEMO__APP": "no", "MARTLET_WEB": "x"]) == [
                "MARTLET_DEMO__APP: demo.app: \"no\" is not true or false. Write true or false, without quotes.",
                "MARTLET_LISTENERS__TCP_PROT: no key of the configuration has this variable. Did you mean "
                    + "MARTLET_LISTENERS__TCP_PORT?",
            ])
        #expect(mistakes("", ["MARTLET_LOG__KAFKA__BROKERS": "a:1"]).first?.contains("log.adapter is folder") == true)
    }

    @Test func listsAndPairsInVariables() throws {
        let settings = SuiteSettings(
            try read(
                "",
                [
                    "MARTLET_LOG__ADAPTER": "kafka", "MARTLET_LOG__KAFKA__BROKERS": "a:1, b:2",
                    "MARTLET_LOG__KAFKA__PROPERTIES": "sasl.mechanism=PLAIN,ssl.ca.location=/a=b",
                ]))
        #expect(settings.log?.brokers == "a:1,b:2")
        #expect(settings.log?.properties == ["sasl.mechanism": "PLAIN", "ssl.ca.location": "/a=b"])
    }

    @Test func aPasswordFromAVariableWinsOverItsFile() throws {
        let text = "hot:\n  adapter: redis\n  redis:\n    url: redis://a\n    password-file: f\n"
        #expect(try SuiteSettings(read(text)).redis.hot?.passwordFile == "f")
        let settings = SuiteSettings(try read(text, ["MARTLET_HOT__REDIS__PASSWORD": "hush"]))
        #expect(settings.redis.hot?.password == "hush" && settings.redis.hot?.passwordFile == nil)
        #expect(try settings.redis.hot?.config(mayEvict: true).password == "hush")
    }

    @Test func anOptionTakesTheStoreElsewhere() throws {
        let text = """
            log:
              adapter: kafka
              kafka: {brokers: "a:1", username: u, password: p}
            recent:
              adapter: mysql
              mysql: {url: "mysql://u@a/b", password-file: f}
            """
        let up = try UpCommand.parse([
            "--log", "kafka://c:3?topics=t-&rebalance-ms=20000", "--recent", "mysql://v@d/e", "--data", "x",
        ])
        let settings = SuiteSettings(try read(text, [:], up.given()))
        #expect(try settings.log == LogSettings(address: "kafka://c:3?topics=t-&rebalance-ms=20000"))
        #expect(try settings.log?.kafka("msg").limits.rebalanceMS == 20_000)
        #expect(settings.mysql.recent?.url == "mysql://v@d/e" && settings.mysql.recent?.passwordFile == "f")
        #expect(settings.data == "x")
        // Files for Redis may be named though no store is there.
        _ = try read("", [:], UpCommand.parse(["--redis-ca", "x", "--hot", "rediss://h"]).given())
    }

    // MARK: secrets

    @Test func nothingShownIsSecret() throws {
        let found = try read(
            """
            log:
              adapter: kafka
              kafka:
                brokers: a:1
                properties: {sasl.password: hush1}
            presence: {adapter: redis, redis: {url: "redis://u:hush2@a"}}
            hot: {adapter: redis, redis: {url: "redis://a", password: hush3}}
            recent: {adapter: mysql, mysql: {url: "mysql://u:hush4@a/b"}}
            """)
        #expect(!found.shown().contains("hush"), "\(found.shown())")
        #expect(found.shown().contains("redis://u:...@a"))
        // And what is shown can be read again, except for them.
        #expect(mistakes(found.shown()).isEmpty)
        let wrong = mistakes("hot:\n  redis:\n    password: [hush5]\n    url: redis://hush6:x:y@\n")
        #expect(wrong.count == 2 && !wrong.contains { $0.contains("hush") }, "\(wrong)")
    }

    @Test func suggestions() {
        #expect(Nearest.to("http-prot", of: ["http-port", "ws-port"]) == "http-port")
        #expect(Nearest.to("colour", of: ["data", "loops"]) == nil)
        #expect(Nearest.distance(Array("kitten".utf8), Array("sitting".utf8)) == 3)
        #expect(Nearest.distance([], Array("abc".utf8)) == 3)
    }
}
