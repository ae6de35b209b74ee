import ArgumentParser
import Foundation
import Runtime

/// `martlet health`: asks the process that runs beside it, for a container's health check.
public struct HealthCommand: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "health", abstract: "Ask a service of this container whether it is ready; exit code 0 or 1.",
        discussion: """
            With cluster.services in the file (and in MARTLET_ variables) it is GET /health on cluster.health-port; \
            otherwise the suite's own GET /health on listeners.http-port.
            """)

    @Option(help: "The configuration file of the service.")
    public var config: String

    public init() {}

    public func run() throws {
        do {
            let configuration = try Configuration.load(file: config)
            let cluster = ClusterSettings(configuration)
            let apart = !cluster.services.isEmpty
            let settings = SuiteSettings(configuration)
            let port = apart ? cluster.healthPort : settings.httpPort
            guard port != 0 else {
                throw StartError("there is no port to ask", cure: "Write cluster.health-port: 7791")
            }
            let host = apart ? cluster.listen : settings.host
            let answer = Self.ask(
                ["0.0.0.0", "::"].contains(host) ? "127.0.0.1" : host, port, isTLS: !apart && settings.tls != nil)
            FileHandle.standardOutput.write(Data("\(answer.words)\n".utf8))
            guard answer.isReady else { throw ExitCode(1) }
        } catch let code as ExitCode {
            throw code
        } catch {
            try StartFailure.tell(error, by: "martlet")
        }
    }

    /// Seconds for the whole question.
    private static let patience = 3
    /// Bytes of an answer that are looked at.
    private static let longest = 16 << 10

    /// Behind TLS only the port is looked at: the certificate is not for 127.0.0.1.
    static func ask(_ host: String, _ port: Int, isTLS: Bool) -> (isReady: Bool, words: String) {
        guard PortProbe.isListening(host: host, port: port) else {
            return (false, "nobody listens on \(host):\(port)")
        }
        if isTLS { return (true, "\(host):\(port) takes connections") }
        guard let link = PortProbe.link(host: host, port: port, seconds: patience) else {
            return (false, "\(host):\(port) takes no connections")
        }
        defer { close(link) }
        let request = Array("GET /health HTTP/1.1\r\nhost: \(host)\r\nconnection: close\r\n\r\n".utf8)
        guard send(link, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            return (false, "the question could not be sent")
        }
        var answer: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 4096)
        while answer.count < longest {
            let count = recv(link, &bytes, bytes.count, 0)
            guard count > 0 else { break }
            answer += bytes[..<count]
        }
        let text = String(decoding: answer, as: UTF8.self)
        let body = text.range(of: "\r\n\r\n").map { String(text[$0.upperBound...]) } ?? ""
        let isReady = text.hasPrefix("HTTP/1.1 200")
        return (isReady, body.isEmpty ? "no answer within \(patience) s" : body)
    }
}
