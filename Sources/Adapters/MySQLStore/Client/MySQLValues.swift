import Foundation

/// The parameters of a statement, in order, in memory that C can be pointed at.
struct MySQLValues {
    enum Slot {
        case number(UInt64, isUnsigned: Bool)
        /// A part of `bytes`.
        case bytes(start: Int, count: Int)
    }
    private(set) var slots: [Slot] = []
    private(set) var bytes: [UInt8] = []

    init() {}

    init(_ numbers: UInt64...) { for number in numbers { add(number) } }

    mutating func add(_ value: UInt64) { slots.append(.number(value, isUnsigned: true)) }
    mutating func add(_ value: Int64) { slots.append(.number(UInt64(bitPattern: value), isUnsigned: false)) }
    mutating func add(_ value: UInt32) { add(UInt64(value)) }
    mutating func add(_ value: Bool) { add(UInt64(value ? 1 : 0)) }

    mutating func add(_ text: String) {
        let start = bytes.count
        bytes.append(contentsOf: text.utf8)
        slots.append(.bytes(start: start, count: bytes.count - start))
    }

    mutating func add(_ data: Data) {
        let start = bytes.count
        bytes.append(contentsOf: data)
        slots.append(.bytes(start: start, count: data.count))
    }

    mutating func removeAll() {
        slots.removeAll(keepingCapacity: true)
        bytes.removeAll(keepingCapacity: true)
    }
}

/// Rows per statement: a statement is prepared for each size, so there are few sizes, and one row more never costs many
/// round trips.
enum Chunks {
    /// Every size up to this has a statement of its own.
    static let small = 16
    static let largest = 128

    /// The next size for that many rows: all of them, or the largest power of two that fits.
    static func size(for rest: Int) -> Int {
        if rest <= small { return rest }
        var size = largest
        while size > rest { size /= 2 }
        return size
    }

    /// The size of a list that is filled up with its last key: all of it, or the next power of two.
    static func padded(_ count: Int) -> Int {
        if count <= small { return count }
        var size = small
        while size < count { size *= 2 }
        return size
    }

    static func tuples(_ columns: Int, _ rows: Int) -> String {
        let tuple = "(" + Array(repeating: "?", count: columns).joined(separator: ",") + ")"
        return Array(repeating: tuple, count: rows).joined(separator: ",")
    }
}
