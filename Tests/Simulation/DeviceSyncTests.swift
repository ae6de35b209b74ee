import Foundation
import NIOCore
import RPC
import TestKit
import Testing
import Wire

@testable import Simulator

/// A scripted device keeps section 11's rules too: what it leaves out, no storm finds.
@Suite struct DeviceSyncTests {
    /// When SYNC_NEEDED comes, seen from a page that fails in the middle of a sync.
    enum Moment: CaseIterable {
        case beforeTheFailure
        case beforeTheRepeat
    }

    /// What asks for a sync while one waits to go on may concern its first pages, which have come already.
    @Test(arguments: Moment.allCases) func aReasonOutlivesAFailedPage(_ moment: Moment) throws {
        var device = Script()
        device.login()
        #expect(device.syncTokens == [""])
        try device.answerSync(token: "mid", more: true)
        let page = try #require(device.syncs.last)
        #expect(device.syncTokens == ["mid"])
        if moment == .beforeTheFailure { device.hear(.syncNeeded(ByteBuffer())) }
        device.syncs = []
        device.hear(.failure(requestID: page.id, Failure(.storeUnavailable, "scripted").buffer))
        if moment == .beforeTheRepeat { device.hear(.syncNeeded(ByteBuffer())) }
        device.pass(ms: 800)
        #expect(device.syncTokens == ["mid"])
        try device.answerSync(token: "end", more: false)
        #expect(device.syncTokens == ["end"], "once more, from the first conversation on")
        try device.answerSync(token: "later", more: false)
        #expect(device.syncTokens == [])
    }

    /// A device at its first connection, and the syncs that it asked for and that are not answered.
    private struct Script {
        var script: MachineScript<DeviceMachine>
        var syncs: [(id: UInt32, token: Data)] = []

        var syncTokens: [String] { syncs.map { String(decoding: $0.token, as: UTF8.self) } }

        init() {
            var config = DeviceConfig(
                app: "app", user: "ann", device: "ann-phone", platform: "phone", token: "t",
                conversations: ["p:ann|bob"], seed: 1)
            config.messages = 0
            config.firstLoginByMS = 0
            script = MachineScript(DeviceMachine(config: config))
        }

        mutating func tell(_ event: RoleEvent<DeviceInput>) {
            for action in script.event(event) + script.event(.flush) {
                guard case .output(.write(_, .request(let header, let body))) = action, header.svid == 4,
                    header.method == 1, let request = SyncRequest(body: body)
                else { continue }
                syncs.append((header.requestID, request.token))
            }
        }

        mutating func hear(_ frame: Frame) { tell(.input(.frame(1, frame))) }

        mutating func pass(ms: UInt64) {
            script.advance(ms: ms)
            tell(.timer(1))
        }

        mutating func login() {
            tell(.start)
            tell(.timer(1))
            tell(.input(.opened(1)))
            var welcome = Welcome()
            welcome.version = 1
            welcome.serverTimeMs = script.now.wallMS
            welcome.heartbeatMs = 30_000
            welcome.pushAckEvery = 32
            welcome.pushAckMs = 200
            hear(.welcome(welcome.buffer))
            hear(.authenticated(Authenticated().buffer))
        }

        mutating func answerSync(token: String, more: Bool) throws {
            let asked = try #require(syncs.last)
            syncs = []
            var response = SyncResponse()
            response.token = Data(token.utf8)
            response.more = more
            hear(.response(requestID: asked.id, response.buffer))
        }
    }
}
