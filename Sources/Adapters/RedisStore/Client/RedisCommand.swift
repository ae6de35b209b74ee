import Crypto
import Foundation
import Wire

/// A program that runs inside the server, in one step.
public struct RedisScript: Sendable, Hashable {
    public let name: String
    public let body: String
    /// SHA-1 of the body, in hexadecimal: the name under which the server keeps it.
    public let sha: String

    public init(_ name: String, _ body: String) {
        self.name = name
        self.body = body
        sha = Insecure.SHA1.hash(data: Data(body.utf8)).map { byte in
            (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
}

/// Arguments of a command: flat, because there are many small ones.
public struct RedisArguments: Sendable, Equatable {
    public private(set) var bytes: [UInt8] = []
    /// Where each argument ends in `bytes`.
    public private(set) var ends: [Int] = []

    public init() {}
    public init(_ texts: String...) { for text in texts { add(text) } }

    public mutating func add(_ text: String) {
        bytes.append(contentsOf: text.utf8)
        ends.append(bytes.count)
    }

    public mutating func add(_ value: some BinaryInteger) { add(String(value)) }

    public mutating func add(bytes more: some Sequence<UInt8>) {
        bytes.append(contentsOf: more)
        ends.append(bytes.count)
    }

    public var count: Int { ends.count }
}

/// One command.
public struct RedisCommand: Sendable, Equatable {
    public enum Kind: Sendable, Equatable {
        /// The arguments are the whole command.
        case plain
        /// The arguments are one key and what follows it. `withRun`: the server's run id goes between the two.
        case script(RedisScript, withRun: Bool)
    }
    public var kind: Kind
    /// Slot of its keys.
    public var slot: UInt16
    public var arguments: RedisArguments

    public init(_ kind: Kind, slot: UInt16, _ arguments: RedisArguments) {
        self.kind = kind
        self.slot = slot
        self.arguments = arguments
    }
}

/// What a server said.
public enum RedisReply: Sendable, Equatable {
    case bytes([UInt8])
    case status(String)
    case error(String)
    case integer(Int64)
    case null
    case array([RedisReply])

    /// Bytes or a status, as text.
    public var text: String? {
        switch self {
        case .bytes(let bytes): String(validating: bytes, as: UTF8.self)
        case .status(let text): text
        case .error, .integer, .null, .array: nil
        }
    }

    /// An integer, or bytes that spell one.
    public var number: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value)
        case .bytes, .status: text.flatMap { UInt64($0) }
        case .error, .null, .array: nil
        }
    }

    public var elements: [RedisReply]? { if case .array(let all) = self { all } else { nil } }
}

/// How a command ended.
public enum RedisResult: Sendable, Equatable {
    case reply(RedisReply)
    /// It never reached a server, or the server refused to carry it out.
    case refused(Failure)
    /// It was sent, and then the deadline passed or the connection broke.
    case unknown(Failure)
}

/// Commands that are answered together.
public struct RedisRequest: Sendable, Equatable {
    public var id: UInt64
    public var commands: [RedisCommand]
    /// `Instant.micros`; what has no answer then is refused or unknown.
    public var deadline: UInt64

    public init(id: UInt64, commands: [RedisCommand], deadline: UInt64) {
        self.id = id
        self.commands = commands
        self.deadline = deadline
    }
}

/// One result per command of the request, in order.
public struct RedisResponse: Sendable, Equatable {
    public var id: UInt64
    public var results: [RedisResult]

    public init(id: UInt64, results: [RedisResult]) {
        self.id = id
        self.results = results
    }
}
