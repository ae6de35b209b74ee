import ArgumentParser
import EmbeddedStore
import Foundation
import Ports
import Runtime
import Wire

/// `martlet dead-letters`: what was accepted and could not become a message.
public struct DeadLettersCommand: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "dead-letters", abstract: "List records that were accepted and could not be stored as messages.",
        discussion: """
            One JSON object a line: bucket, offset, bytes (base64) and, where the record can be read, app, conversation,
            sender and client_msg_id. Nothing on the output means that there are none. The suite must not be running:
            the stores belong to one process. The records stay.
            """)

    @Option(help: "The data folder of `martlet up`.")
    public var data = "./martlet-data"
    @Option(help: "At most so many, oldest first.")
    public var limit = 1000

    public init() {}

    public func validate() throws {
        guard (1...1_000_000).contains(limit) else { throw ValidationError("--limit must be between 1 and 1000000") }
    }

    public func run() throws {
        do {
            let path = data + "/recent.sqlite"
            guard FileManager.default.fileExists(atPath: path) else {
                throw StartError("\(data) is no data folder of Martlet's", cure: "Name the one that was given to `up`")
            }
            let folder = try DataFolder(path: data)
            for letter in try Self.letters(path, limit: limit) {
                FileHandle.standardOutput.write(try Self.line(letter) + Data("\n".utf8))
            }
            withExtendedLifetime(folder) {}
        } catch let error as StartError {
            FileHandle.standardError.write(Data("martlet: \(error)\n".utf8))
            throw ExitCode(1)
        }
    }

    private static func letters(_ path: String, limit: Int) throws -> [DeadLetter] {
        do { return try SQLiteRecentStore(path: path).deadLetters(limit: limit) } catch let error as StoreOpenError {
            throw StartError(error.message, cure: "The data folder was left as it is")
        } catch let failure as Failure {
            throw StartError("the dead letters cannot be read: \(failure.message)", cure: "Look at the disk")
        }
    }

    private struct Line: Encodable {
        let bucket: UInt32
        let offset: UInt64
        let bytes: Data
        var app: String?
        var conversation: String?
        var sender: String?
        var client_msg_id: String?
    }

    static func line(_ letter: DeadLetter) throws -> Data {
        var line = Line(bucket: letter.bucket, offset: letter.offset, bytes: letter.bytes)
        if let record = try? LogRecord(serializedBytes: letter.bytes), !record.conversation.isEmpty {
            line.app = record.appID
            line.conversation = record.conversation
            line.sender = record.sender
            line.client_msg_id = record.clientMsgID.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }
                .joined()
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(line)
    }
}
