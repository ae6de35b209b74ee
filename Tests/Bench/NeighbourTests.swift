import Foundation
import NIOCore
import Testing
import Wire

@testable import MartletBench

@Suite struct NeighbourTests {
    private func histogram(_ values: [UInt64]) -> Histogram {
        var histogram = Histogram()
        for value in values { histogram.record(value) }
        return histogram
    }

    @Test func medians() {
        #expect(median([]) == 0 && median([3]) == 3 && median([9, 1, 5]) == 5 && median([4, 1, 2, 3]) == 2.5)
    }

    @Test func theResultIsTheMedianOfTheRatios() {
        let plan = NeighbourPlan(rate: 500, turns: 3, seconds: 1, silent: 0, limit: 2)
        let chat = ChatPlan(pairs: 50, bytes: 100, seconds: 1, depth: 1)
        // Ratios 3, 1.5 and 1; the ratio of the medians would be 2.
        let turns = [(100, 300), (200, 300), (50, 50)].map { quiet, hostile in
            NeighbourReport.Turn(quiet: histogram([UInt64(quiet)]), hostile: histogram([UInt64(hostile)]))
        }
        var report = NeighbourReport(chat, plan, turns: turns, hostile: HostileReport(), lost: [:])
        #expect(report.ratio == 1.5 && report.quietP99Ms == 0.1 && report.hostileP99Ms == 0.3 && report.errors == 0)
        report = NeighbourReport(
            chat, plan, turns: [turns[0]], hostile: HostileReport(), lost: ["connection_lost": 2])
        #expect(report.errors == 3 && report.errorCounts["ratio_above_limit"] == 1)
    }

    @Test func hostileReportsAddUpAndSurviveTheirJSON() throws {
        var one = HostileReport()
        one.seconds = 1.5
        one.connections = 7
        one.byKind = ["churn": 5, "flood": 2]
        one.endedByServer = 3
        one.cpuS = 0.25
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        #expect(try decoder.decode(HostileReport.self, from: one.json) == one)
        let sum = HostileReport(sumOf: [one, one])
        #expect(sum.connections == 14 && sum.byKind == ["churn": 10, "flood": 4] && sum.cpuS == 0.5)
    }

    @Test func whatHostileClientsSendIsWhatItSays() throws {
        var bytes = HostileBytes(seed: 3)
        var again = HostileBytes(seed: 3)
        #expect(bytes.garbage() == again.garbage() && bytes.garbage().count == 4096)
        var flood = ByteBuffer(bytes: bytes.flood)
        guard case .hello? = try FrameCodec.decodeStream(&flood, limit: FrameLimits.beforeLoginBytes) else {
            Issue.record("a flood begins with a HELLO")
            return
        }
        for _ in 0..<2000 {
            #expect(try FrameCodec.decodeStream(&flood, limit: FrameLimits.beforeLoginBytes) == .ping)
        }
        #expect(flood.readableBytes == 0)
        var impostor = ByteBuffer(bytes: bytes.impostor)
        _ = try FrameCodec.decodeStream(&impostor, limit: FrameLimits.beforeLoginBytes)
        guard case .authenticate(let body)? = try FrameCodec.decodeStream(&impostor, limit: 8192) else {
            Issue.record("an impostor logs in")
            return
        }
        #expect(Authenticate(body: body)?.token.split(separator: ".").count == 3)
        var giant = ByteBuffer(bytes: bytes.giant)
        #expect(throws: FrameError.self) {
            _ = try FrameCodec.decodeStream(&giant, limit: FrameLimits.afterLoginBytes)
        }
        var request = ByteBuffer(bytes: HostileBytes.request(9))
        guard case .request(let header, _)? = try FrameCodec.decodeStream(&request, limit: 8192) else {
            Issue.record("no request")
            return
        }
        #expect(header == .init(svid: 900, method: 1, requestID: 9))
    }

    @Test func onlyThisMachineIsAttacked() throws {
        let away = try ServerAddress(host: "192.0.2.1", port: 7782)
        #expect(throws: BenchError("hostile traffic goes to a server on this machine only, 127.x.x.x")) {
            _ = try HostileRun(HostilePlan(seconds: 1, silent: 0, seed: 1), address: away, access: "/nowhere")
        }
    }
}
