import ArgumentParser
import Foundation
import ServiceSDK

/// A small service of somebody who has only the public SDK.
@main
struct EchoService: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet-echo",
        abstract: "An example service: echo, time, remind-me and push-me.",
        discussion: "Run it as often as you like; requests are balanced over the instances.")

    @Option(name: .long, help: "A process of Martlet's, host:port. Repeat it for every one there is.")
    var connect: [String]

    @Option(name: .long, help: "File that holds the cluster's secret (or set MARTLET_SECRET).")
    var secretFile: String?

    @Option(name: .long, help: "The app whose users it serves.")
    var app = "demo"

    @Option(name: .long, help: "The service id, 1000 to 65535.")
    var svid: UInt32 = 1000

    @Option(name: .long, help: "This instance's name; unique. Made from the process id when left out.")
    var name: String?

    func run() async throws {
        let instance = name ?? "echo-\(ProcessInfo.processInfo.processIdentifier)"
        let reminders = Reminders()
        let users = Users()
        var config = ServiceConfig()
        config.repeatableMethods = [Methods.Number.echo, Methods.Number.time]
        let service = try MartletService(svid: svid, app: app, name: instance, config: config) { requests in
            await Methods(instance: instance, reminders: reminders, users: users).answer(requests)
        }
        users.join(service)
        try service.connect(to: connect, secret: try secret())
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await reminders.run { await users.remind($0) } }
            try await service.run()
            reminders.stop()
        }
    }

    private func secret() throws -> String {
        if let secretFile {
            let text = try String(contentsOfFile: secretFile, encoding: .utf8)
            return text.trimmingCharacters(in: .whitespacesAndNewlines)
        }
        guard let secret = ProcessInfo.processInfo.environment["MARTLET_SECRET"] else {
            throw ValidationError("give --secret-file, or set MARTLET_SECRET")
        }
        return secret
    }
}
