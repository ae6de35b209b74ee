import ArgumentParser
import EmbeddedStore
import Foundation
import MySQLStore
import Ports
import Runtime
import Wire

/// `martlet ops dead-letters`: what was accepted and could not become a message.
public struct DeadLettersCommand: ParsableCommand {
    public static let configuration = CommandConfiguration(
        commandName: "dead-letters", abstract: "Records that were accepted and could not be stored as messages.",
        subcommands: [DeadLettersList.self, DeadLettersExport.self])

    public init() {}
}

/// Which recent store they are in.
struct DeadLetterSource: ParsableArguments {
    @Option(help: "The data folder of `martlet up`, where --recent is not given; the suite must not be running then.")
    var data = "./martlet-data"
    @Option(help: "At most so many of each shard, oldest first.")
    var limit = 1000

    func validate() throws {
        guard (1...1_000_000).contains(limit) else { throw ValidationError("--limit must be between 1 and 1000000") }
    }

    /// A letter and the shard that has it; 0 where there are none.
    struct Found { var shard: Int; var letter: DeadLetter }

    func letters(_ options: OpsOptions) throws -> [Found] {
        guard try options.backends.settings().mysql.recent != nil else { return try embedded() }
        let survey = ShardSurvey(try options.shards())
        var found: [Found] = []
        for number in 0..<survey.shards {
            found += try survey.deadLetters(of: number, limit: limit).map { Found(shard: number, letter: $0) }
        }
        return found
    }

    private func embedded() throws -> [Found] {
        let path = data + "/recent.sqlite"
        guard FileManager.default.fileExists(atPath: path) else {
            throw OpsError(
                .options, "\(data) is no data folder of Martlet's", cure: "Name the one that was given to `up`")
        }
        let folder = try DataFolder(path: data)
        defer { withExtendedLifetime(folder) {} }
        return try SQLiteRecentStore(path: path).deadLetters(limit: limit).map { Found(shard: 0, letter: $0) }
    }
}

/// A dead letter as a line of JSON.
struct DeadLetterLine: Encodable, Equatable {
    var shard: Int
    var bucket: UInt32
    var offset: UInt64
    /// The record as it is in the log; base64 in JSON.
    var bytes: Data
    // Where the record can be read.
    var app: String?
    var conversation: String?
    var sender: String?
    var clientMsgId: String?

    init(_ found: DeadLetterSource.Found) {
        shard = found.shard
        bucket = found.letter.bucket
        offset = found.letter.offset
        bytes = found.letter.bytes
        guard let record = try? LogRecord(serializedBytes: bytes), !record.conversation.isEmpty else { return }
        app = record.appID
        conversation = record.conversation
        sender = record.sender
        clientMsgId = record.clientMsgID.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }
}

/// `martlet ops dead-letters list`
struct DeadLettersList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List them: where they are, and whose, where that can be read.",
        discussion: "With --json one object a line, with the record itself in base64. The records stay.")

    @OptionGroup var source: DeadLetterSource
    @OptionGroup var options: OpsOptions

    func run() throws {
        try options.run {
            let found = try source.letters(options).map(DeadLetterLine.init)
            if options.json {
                for line in found { Words.say(try Words.json(line)) }
                return
            }
            guard !found.isEmpty else { return Words.complain("there are no dead letters") }
            var table = Table("shard", "bucket", "offset", "bytes", "app", "conversation", "sender")
            for line in found {
                table.add(
                    "\(line.shard)", "\(line.bucket)", "\(line.offset)", "\(line.bytes.count)", line.app ?? "?",
                    line.conversation ?? "?", line.sender ?? "?")
            }
            Words.say(table.text)
        }
    }
}

/// `martlet ops dead-letters export`
struct DeadLettersExport: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Write them to a file, one JSON object a line.",
        discussion: "The file is its owner's alone: it has messages in it. One that is there is not overwritten.")

    @Argument(help: "The file to be made.")
    var file: String
    @OptionGroup var source: DeadLetterSource
    @OptionGroup var options: OpsOptions

    private struct Exported: Encodable {
        var file: String
        var letters: Int
    }

    func run() throws {
        try options.run {
            let lines = try source.letters(options).map { try Words.json(DeadLetterLine($0)) + "\n" }
            let flags = O_WRONLY | O_CREAT | O_EXCL
            let descriptor = open(file, flags, 0o600)
            guard descriptor >= 0 else {
                throw OpsError(
                    .file, "\(file) cannot be made: \(String(cString: strerror(errno)))", cure: "Name a new file")
            }
            let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
            do {
                for line in lines { try handle.write(contentsOf: Data(line.utf8)) }
                try handle.synchronize()
            } catch {
                throw OpsError(.file, "\(file) cannot be written: \(error)", cure: "Free some space; the records stay")
            }
            if options.json {
                Words.say(try Words.json(Exported(file: file, letters: lines.count)))
            } else {
                Words.complain("\(lines.count) dead letters are in \(file)")
            }
        }
    }
}
