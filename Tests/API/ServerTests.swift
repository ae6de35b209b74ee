import APIRole
import Foundation
import Logging
import NIOCore
import NIOPosix
import RPC
import Testing
import Wire

/// A web folder with a page, a script, something of another kind, and a link that leads out of it.
private func webFolder() throws -> String {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-web-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
        at: root.appendingPathComponent("web/sdk"), withIntermediateDirectories: true)
    for (name, text) in [
        ("web/index.html", "<!doctype html>"), ("web/sdk/a.js", "export {}"), ("web/notes.txt", "not served"),
        ("web/.hidden.js", "not served"), ("secret.js", "secret"),
    ] {
        try Data(text.utf8).write(to: root.appendingPathComponent(name))
    }
    try FileManager.default.createSymbolicLink(
        at: root.appendingPathComponent("web/link.js"), withDestinationURL: root.appendingPathComponent("secret.js"))
    return root.appendingPathComponent("web").path
}

@Suite struct ServerTests {
    @Test func filesOfTheWebClient() async throws {
        let folder = try webFolder()
        try await withAPI { $0.webFolder = folder } _: { http, _ in
            let index = try await http.get("/")
            #expect(index.status == 200 && index.text == "<!doctype html>")
            #expect(index.headers["content-type"] == "text/html; charset=utf-8")
            #expect(index.headers["cache-control"] == "no-cache")
            #expect(index.headers["x-content-type-options"] == "nosniff")
            #expect(index.headers["content-security-policy"]?.contains("default-src 'self'") == true)
            let script = try await http.get("/sdk/a.js")
            #expect(script.text == "export {}" && script.headers["content-type"] == "text/javascript; charset=utf-8")
            let tag = try #require(script.headers["etag"])
            let again = try await http.get("/sdk/a.js", headers: ["If-None-Match": tag])
            #expect(again.status == 304 && again.body.isEmpty)
            let head = try await http.send("HEAD", "/sdk/a.js")
            #expect(head.status == 200 && head.body.isEmpty && head.headers["content-length"] == "9")
        }
    }

    @Test(arguments: [
        "/../secret.js", "/sdk/../../secret.js", "/%2e%2e/secret.js", "/..%2fsecret.js", "/sdk/%2e%2e%2f..%2fsecret.js",
        "//secret.js", "/\\..\\secret.js", "/link.js", "/.hidden.js", "/notes.txt", "/nothing", "/sdk", "/sdk/",
        "/sdk/a.js%00.html",
    ])
    func nothingElseIsServed(path: String) async throws {
        let folder = try webFolder()
        try await withAPI { $0.webFolder = folder } _: { http, _ in
            let answer = try await http.get(path)
            #expect(answer.status == 404 && answer.reason == "not_found")
        }
    }

    @Test func aBadWebFolderIsToldAtTheStart() async throws {
        await #expect(throws: APIStartError.self) {
            try await withAPI { $0.webFolder = "/nonexistent/martlet" } _: { _, _ in }
        }
    }

    @Test func unknownRoutesAndMethodsHaveTheOneShape() async throws {
        try await withAPI { http, _ in
            let answers = [
                try await http.get("/v2/x"), try await http.send("DELETE", "/v1/apps"), try await http.get("/"),
            ]
            for answer in answers {
                #expect(answer.status == 404 && answer.json["code"] as? Int == 310 && answer.reason == "not_found")
                #expect(answer.headers["content-type"]?.hasPrefix("application/json") == true)
            }
        }
    }

    @Test func healthAsksForReal() async throws {
        try await withAPI {
            $0.expectedRoles = ["user", "route", "online"]
            $0.limits.cacheMS = 0
            $0.limits.probeTimeoutMS = 100
        } _: { http, roles in
            let well = try await http.get("/health")
            #expect(well.status == 200 && well.json["status"] as? String == "ok")
            roles.state.withLock { $0.refusal = Failure(.overloaded, "no") }
            let ill = try await http.get("/health")
            #expect(ill.status == 503 && ill.json["status"] as? String == "degraded")
            roles.state.withLock { $0.refusal = nil }
            let answer1 = try await http.get("/health")
            #expect(answer1.status == 200)
        }
        try await withAPI { $0.expectedRoles = ["login"] } _: { http, _ in
            let answer = try await http.get("/health")
            let login = (answer.json["roles"] as? [String: [String: Any]])?["login"]
            #expect(answer.status == 503 && login?["instances"] as? Int == 0)
        }
    }

    @Test func rolesThatRefuseKeepTheirCode() async throws {
        try await withAPI { http, roles in
            roles.state.withLock { $0.refusal = Failure(.overloaded, "later", retryAfterMS: 1500) }
            let answer = try await http.post("/v1/tokens", #"{"user_id":"u"}"#, basic: "demo:s3cret")
            #expect(answer.status == 503 && answer.reason == "overloaded" && answer.headers["retry-after"] == "2")
        }
    }

    @Test func requestsUnderWayEndBeforeTheServerDoes() async throws {
        let roles = FakeRoles()
        let directory = Directory()
        roles.join(directory)
        let held = roles.hold()
        let lane = Lane(name: "test", loop: MultiThreadedEventLoopGroup.singleton.any())
        let ports = AsyncStream<Int>.makeStream()
        let left = AsyncStream<Void>.makeStream()
        let answer = try await withThrowingTaskGroup(of: HTTPAnswer?.self) { tasks in
            tasks.addTask {
                try await APIServer.start(
                    config: APIConfig(adminKey: "k"), directory: directory, lane: lane, logger: Logger(label: "test")
                ) { server in
                    ports.continuation.yield(server.port)
                    // The body ends, and with it the server, as soon as the request hangs in a role.
                    for await _ in held { break }
                    left.continuation.yield()
                }
                return nil
            }
            tasks.addTask {
                var iterator = ports.stream.makeAsyncIterator()
                let port = try #require(await iterator.next())
                return try await HTTPClient(port: port).post("/v1/apps", #"{"app_id":"late"}"#, bearer: "k")
            }
            tasks.addTask {
                for await _ in left.stream { break }
                // The server is told to end before the answer can be there; how long before makes no difference.
                try await Task.sleep(for: .milliseconds(100))
                roles.release()
                return nil
            }
            var answer: HTTPAnswer?
            while let done = try await tasks.next() { answer = done ?? answer }
            return answer
        }
        #expect(answer?.status == 201)
    }

    @Test func aTakenPortIsOneClearLine() async throws {
        try await withAPI { http, _ in
            let error = await #expect(throws: APIStartError.self) {
                try await withAPI { $0.port = http.port } _: { _, _ in }
            }
            #expect("\(String(describing: error))".contains("\(http.port)"))
        }
    }

    @Test func cancellationEndsRun() async throws {
        let directory = Directory()
        let lane = Lane(name: "test", loop: MultiThreadedEventLoopGroup.singleton.any())
        let ports = AsyncStream<Int>.makeStream()
        try await withThrowingTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                try await APIServer.run(
                    config: APIConfig(), directory: directory, lane: lane, logger: Logger(label: "test")
                ) { ports.continuation.yield($0) }
            }
            var iterator = ports.stream.makeAsyncIterator()
            let port = try #require(await iterator.next())
            let health = try await HTTPClient(port: port).get("/health")
            #expect(health.status == 503)
            tasks.cancelAll()
            while let _ = try await tasks.next() {}
            await #expect(throws: (any Error).self) { try await HTTPClient(port: port).get("/health") }
        }
    }
}
