import Foundation
import Testing

@testable import MartletBench

@Suite struct ReadingsTests {
    @Test func cpuOfAProcessWithBracketsInItsName() {
        let stat = "4242 (a ) b (c)) S 1 4242 4242 0 -1 4194560 900 0 0 0 1234 766 5 6 20 0 9 0 100 200 300"
        #expect(ProcessReadings.cpuSeconds(stat: stat, ticksPerSecond: 100) == 20)
        #expect(ProcessReadings.cpuSeconds(stat: "4242 (martlet) S 1", ticksPerSecond: 100) == nil)
        #expect(ProcessReadings.cpuSeconds(stat: "", ticksPerSecond: 100) == nil)
    }

    @Test func privateMemoryIsCleanAndDirty() {
        let text = """
            55d0c0000000-7ffd5c5fe000 ---p 00000000 00:00 0                          [rollup]
            Rss:               90000 kB
            Pss_Dirty:         40000 kB
            Shared_Clean:       2000 kB
            Private_Clean:      1500 kB
            Private_Dirty:     40500 kB
            """
        #expect(ProcessReadings.privateBytes(smapsRollup: text) == 42_000 * 1024)
        #expect(ProcessReadings.privateBytes(smapsRollup: "Rss: 12 kB\n") == nil)
    }

    @Test func kernelMemory() {
        #expect(ProcessReadings.slabBytes(meminfo: "MemTotal: 1 kB\nSlab:             300 kB\n") == 307_200)
        #expect(ProcessReadings.slabBytes(meminfo: "SReclaimable: 5 kB\n") == nil)
        let sockstat = "sockets: used 300\nTCP: inuse 27 orphan 1 tw 28 alloc 27 mem 12\nUDP: inuse 0 mem 9\n"
        #expect(ProcessReadings.socketBytes(sockstat: sockstat, pageBytes: 4096) == 49_152)
        #expect(ProcessReadings.socketBytes(sockstat: "UDP: inuse 0 mem 9\n", pageBytes: 4096) == nil)
    }

    @Test func thisProcessCanBeRead() throws {
        let me = ServerProcesses(pids: [ProcessInfo.processInfo.processIdentifier])
        #expect(try me.privateBytes() > 100_000)
        #expect(try me.cpuSeconds() ?? -1 >= 0)
        #expect(throws: BenchError.self) { try ServerProcesses(pids: [2_000_000_000]).privateBytes() }
    }

    @Test func addresses() throws {
        let plain = try #require(BenchOptions.address("127.0.0.1:7782"))
        #expect(plain == ("127.0.0.1", 7782))
        let six = try #require(BenchOptions.address("[::1]:80"))
        #expect(six == ("::1", 80))
        for wrong in ["", "host", ":80", "host:", "host:0", "host:70000", "::1", "[]:80", "host:8o"] {
            #expect(BenchOptions.address(wrong) == nil, "\(wrong)")
        }
    }

    @Test func accessFilesThatAreNone() throws {
        let path = NSTemporaryDirectory() + "martlet-bench-access-\(ProcessInfo.processInfo.processIdentifier).json"
        defer { try? FileManager.default.removeItem(atPath: path) }
        #expect(throws: BenchError.self) { try Access.load(path) }
        for text in [
            "", "{}", #"{"app":"demo","key_id":"k","secret":"%%"}"#, #"{"app":"","key_id":"k","secret":"YQ=="}"#,
        ] {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
            #expect(throws: BenchError.self, "\(text)") { try Access.load(path) }
        }
        try Data(#"{"app":"demo","key_id":"k","secret":"YWJj","users":{}}"#.utf8).write(to: URL(fileURLWithPath: path))
        #expect(try Access.load(path) == Access(app: "demo", keyID: "k", secret: Data("abc".utf8)))
    }
}
