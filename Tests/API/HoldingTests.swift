import APIRole
import Foundation
import Machinery
import NIOCore
import Testing

/// Clients that hold what others need: places, connections, time.
@Suite(.timeLimit(.minutes(1))) struct HoldingTests {
    private let head = "POST /demo/login HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"

    @Test func bodiesThatDoNotComeTakeNoPlaceAndAreEnded() async throws {
        try await withAPI {
            $0.limits.requestsInFlight = 4
            $0.limits.requestMS = 1500
        } _: { http, _ in
            var held: [(any Channel, EventLoopFuture<Data>)] = []
            for _ in 0..<12 { held.append(try await http.open()) }
            for (channel, _) in held { channel.writeAndFlush(ByteBuffer(string: head), promise: nil) }
            try await Task.sleep(for: .milliseconds(200))
            let began = ContinuousClock.now
            let answer = try await http.post("/v1/tokens", #"{"user_id":"bob"}"#, basic: "demo:s3cret")
            #expect(answer.status == 201, "\(answer.text)")
            // A byte now and then is no reason to wait longer.
            for _ in 0..<3 {
                for (channel, _) in held { channel.writeAndFlush(ByteBuffer(string: "x"), promise: nil) }
                try await Task.sleep(for: .milliseconds(300))
            }
            for (_, said) in held { #expect(try await said.get().isEmpty) }
            #expect(ContinuousClock.now - began < .seconds(4))
        }
    }

    @Test func aHeadThatComesByteByByteIsEnded() async throws {
        try await withAPI {
            $0.limits.requestMS = 500
        } _: { http, _ in
            let (channel, said) = try await http.open()
            let began = ContinuousClock.now
            for byte in head.utf8.prefix(12) where channel.isActive {
                channel.writeAndFlush(ByteBuffer(bytes: [byte]), promise: nil)
                try await Task.sleep(for: .milliseconds(100))
            }
            #expect(try await said.get().isEmpty)
            #expect(ContinuousClock.now - began < .seconds(3))
        }
    }

    @Test func strangersSendNoLargeBodies() async throws {
        try await withAPI { http, _ in
            let password = String(repeating: "x", count: 8192)
            let answer = try await http.post("/demo/login", #"{"user":"alice","password":"\#(password)"}"#)
            #expect(answer.status == 413 && answer.reason == "limit_exceeded")
        }
    }

    /// Requests behind one another, none of whose answers is read: the only connection is free again in time.
    @Test func answersThatNobodyTakesAreGivenUp() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-web-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data("<!doctype html>".utf8).write(to: folder.appendingPathComponent("index.html"))
        try Data(repeating: 0x20, count: 4 << 20).write(to: folder.appendingPathComponent("large.js"))
        try await withAPI {
            $0.webFolder = folder.path
            $0.limits.connections = 1
            $0.limits.responseMS = 500
            $0.limits.responseBytesPerSecond = 64 << 20
        } _: { http, _ in
            let (channel, _) = try await http.open(reading: false)
            let request = "GET /large.js HTTP/1.1\r\nHost: x\r\n\r\n"
            try await channel.writeAndFlush(ByteBuffer(string: String(repeating: request, count: 30)))
            let began = ContinuousClock.now
            #expect(try await http.get("/").status == 200)
            #expect(ContinuousClock.now - began < .seconds(5))
            try? await channel.close()
        }
    }

    /// A few requests behind one another are answered; thousands end their connection, and others have their turn.
    @Test func floodsOfRequestsEndTheirConnection() async throws {
        try await withAPI {
            $0.limits.pipelined = 8
        } _: { http, _ in
            let request = "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
            let last = "GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            let (few, answers) = try await http.open()
            try await few.writeAndFlush(ByteBuffer(string: String(repeating: request, count: 7) + last))
            let told = String(decoding: try await answers.get(), as: UTF8.self)
            #expect(told.components(separatedBy: "HTTP/1.1 404").count == 9)
            let (many, rest) = try await http.open()
            many.writeAndFlush(ByteBuffer(string: String(repeating: request, count: 2000)), promise: nil)
            // A reset may take with it what was answered before.
            let heard = String(decoding: (try? await rest.get()) ?? Data(), as: UTF8.self)
            #expect(heard.components(separatedBy: "HTTP/1.1 404").count <= 9)
            #expect(try await http.get("/nothing").status == 404)
        }
    }

    @Test func aLargeAnswerMayTakeItsTime() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-web-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try Data(repeating: 0x20, count: 4 << 20).write(to: folder.appendingPathComponent("index.html"))
        try await withAPI {
            $0.webFolder = folder.path
            $0.limits.responseMS = 1
            $0.limits.responseBytesPerSecond = 1 << 20
        } _: { http, _ in
            let answer = try await http.get("/")
            #expect(answer.body.count == 4 << 20)
        }
    }

    @Test func oneAddressCannotHaveAllConnections() async throws {
        try await withAPI {
            $0.limits.connections = 8
            $0.limits.idleSecondsCrowded = 60
        } _: { http, _ in
            // Half of all are taken by four, more than a quarter by this address: one of five, whichever the server
            // takes up last, is closed.
            let ended = AsyncStream<Data>.makeStream()
            var held: [any Channel] = []
            for _ in 0..<5 {
                let (channel, data) = try await http.open()
                held.append(channel)
                data.whenSuccess { ended.continuation.yield($0) }
            }
            var ends = ended.stream.makeAsyncIterator()
            #expect(await ends.next()?.isEmpty == true)
            #expect(held.filter(\.isActive).count == 4)
            #expect(try await http.from("127.0.0.2").get("/nothing").status == 404)
            for channel in held { try? await channel.close() }
        }
    }

    @Test func differencesOfTimesDoNotUnderflow() {
        let (earlier, later): (UInt64, UInt64) = (5, 7)
        #expect(later.since(earlier) == 2 && earlier.since(later) == 0 && earlier.since(earlier) == 0)
    }
}
