import Ports
import Testing

@testable import RedisStore

/// What is said about a Redis's settings.
@Suite struct ExaminationTests {
    @Test func settings() {
        var facts = RedisFacts(mayEvict: true)
        facts.read("# Server\r\nredis_version:7.0.15\r\n")
        facts.read("maxmemory:1000\r\nmaxmemory_policy:allkeys-lru\r\n")
        facts.read("rdb_last_bgsave_status:ok\r\n")
        #expect(facts.findings("hot").allSatisfy { $0.level == .ok })
        #expect(facts.findings("hot").first == Finding(.ok, "hot: version", "7.0.15"))
        func level(_ subject: String, _ change: (inout RedisFacts) -> Void) -> Finding.Level? {
            var other = facts
            change(&other)
            return other.findings("hot").first { $0.subject == "hot: \(subject)" }?.level
        }
        #expect(level("maxmemory-policy") { $0.policy = "noeviction" } == .warning)
        #expect(level("maxmemory") { $0.memoryLimit = 0 } == .warning)
        #expect(level("persistence") { $0.read("rdb_last_bgsave_status:err") } == .error)
        #expect(level("rights") { $0.denied = ["NOPERM"] } == .error)
        #expect(level("clock") { $0.aheadMS = -90_000 } == .error)
        let presence: (inout RedisFacts) -> Void = {
            $0.policy = "noeviction"
            $0.mayEvict = false
        }
        #expect(level("maxmemory-policy", presence) == .ok)
    }
}
