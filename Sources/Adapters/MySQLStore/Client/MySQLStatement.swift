internal import CMariaDB
import Foundation

/// A prepared statement of one connection. Released with `close` before its connection is.
///
/// Isolation: its connection's thread.
final class MySQLStatement {
    private let handle: UnsafeMutablePointer<MYSQL_STMT>
    private let sql: String
    private var parameters: UnsafeMutableBufferPointer<MYSQL_BIND>
    private var columns: UnsafeMutableBufferPointer<MYSQL_BIND>
    private let cells: UnsafeMutableBufferPointer<MySQLCell>
    private var isClosed = false

    init(_ connection: UnsafeMutablePointer<MYSQL>, _ sql: String) throws(MySQLError) {
        guard let made = mysql_stmt_init(connection) else { throw MySQLError(.other, "out of memory") }
        guard mysql_stmt_prepare(made, sql, UInt(sql.utf8.count)) == 0 else {
            let error = MySQLError(code: mysql_stmt_errno(made), message: String(cString: mysql_stmt_error(made)))
            mysql_stmt_close(made)
            throw error
        }
        handle = made
        self.sql = sql
        parameters = .allocate(capacity: Int(mysql_stmt_param_count(made)))
        parameters.initialize(repeating: MYSQL_BIND())
        let count = Int(mysql_stmt_field_count(made))
        columns = .allocate(capacity: count)
        columns.initialize(repeating: MYSQL_BIND())
        cells = .allocate(capacity: count)
        cells.initialize(repeating: MySQLCell())
        // So that a column's buffer can be made as large as its largest value.
        withUnsafePointer(to: my_bool(1)) { _ = mysql_stmt_attr_set(made, STMT_ATTR_UPDATE_MAX_LENGTH, $0) }
    }

    deinit {
        close()
        parameters.deallocate()
        columns.deallocate()
        for cell in cells { cell.buffer?.deallocate() }
        cells.deallocate()
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        mysql_stmt_close(handle)
    }

    private var error: MySQLError {
        MySQLError(code: mysql_stmt_errno(handle), message: String(cString: mysql_stmt_error(handle)))
    }

    /// How many rows it changed.
    func execute(_ values: MySQLValues) throws(MySQLError) -> Int {
        try send(values)
        return Int(clamping: mysql_stmt_affected_rows(handle))
    }

    private func send(_ values: MySQLValues) throws(MySQLError) {
        precondition(values.slots.count == parameters.count, "a statement without some of its parameters: \(sql)")
        let isSent = values.bytes.withUnsafeBytes { bytes in
            // The library only reads parameters; the pointers are not used after `execute`.
            for (index, slot) in values.slots.enumerated() { bind(index, slot, bytes) }
            if !parameters.isEmpty, mysql_stmt_bind_param(handle, parameters.baseAddress) != 0 { return false }
            return mysql_stmt_execute(handle) == 0
        }
        if !isSent { throw error }
    }

    private func bind(_ index: Int, _ slot: MySQLValues.Slot, _ bytes: UnsafeRawBufferPointer) {
        switch slot {
        case .number(let value, let isUnsigned):
            // A place for eight bytes that lives as long as the bind does.
            parameters[index].buffer_type = MYSQL_TYPE_LONGLONG
            parameters[index].is_unsigned = isUnsigned ? 1 : 0
            parameters[index].offset = UInt(value)
            parameters[index].buffer = UnsafeMutableRawPointer(parameters.baseAddress.map { $0 + index })?
                .advanced(by: Self.offsetPlace)
        case .bytes(let start, let count):
            parameters[index].buffer_type = MYSQL_TYPE_BLOB
            parameters[index].is_unsigned = 0
            parameters[index].buffer = UnsafeMutableRawPointer(mutating: (bytes.baseAddress ?? Self.nothing) + start)
            parameters[index].buffer_length = UInt(count)
            parameters[index].length_value = UInt(count)
        }
        parameters[index].length = nil
    }

    /// `MYSQL_BIND.offset` is for fetching only: a parameter's number is kept there.
    private static let offsetPlace = MemoryLayout<MYSQL_BIND>.offset(of: \MYSQL_BIND.offset) ?? 0
    private nonisolated(unsafe) static let nothing: UnsafeRawPointer = {
        // Never written: where bytes begin when there are none, as no bytes are not NULL.
        let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
        byte.initialize(to: 0)
        return UnsafeRawPointer(byte)
    }()

    func query(_ values: MySQLValues, _ each: (borrowing MySQLRow) -> Void) throws(MySQLError) {
        try send(values)
        guard mysql_stmt_store_result(handle) == 0 else { throw error }
        defer { mysql_stmt_free_result(handle) }
        makeRoom()
        guard mysql_stmt_bind_result(handle, columns.baseAddress) == 0 else { throw error }
        let row = MySQLRow(cells: UnsafeBufferPointer(cells))
        while true {
            switch mysql_stmt_fetch(handle) {
            case 0: each(row)
            case MYSQL_NO_DATA: return
            default: throw error
            }
        }
    }

    /// Buffers for the longest values of the stored result.
    private func makeRoom() {
        guard let fields = mariadb_stmt_fetch_fields(handle), let cells = cells.baseAddress else { return }
        for index in columns.indices {
            let cell = cells + index
            cell.pointee.isNumber = Self.isNumber(fields[index].type)
            let wanted = cell.pointee.isNumber ? 8 : max(1, Int(fields[index].max_length))
            if cell.pointee.room < wanted || cell.pointee.buffer == nil {
                cell.pointee.buffer?.deallocate()
                cell.pointee.buffer = .allocate(byteCount: wanted, alignment: 8)
                cell.pointee.room = wanted
            }
            columns[index].buffer_type = cell.pointee.isNumber ? MYSQL_TYPE_LONGLONG : MYSQL_TYPE_BLOB
            columns[index].is_unsigned = fields[index].flags & UInt32(UNSIGNED_FLAG) != 0 ? 1 : 0
            columns[index].buffer = cell.pointee.buffer
            columns[index].buffer_length = UInt(cell.pointee.room)
            let raw = UnsafeMutableRawPointer(cell)
            columns[index].length = (raw + MySQLCell.lengthPlace).assumingMemoryBound(to: UInt.self)
            columns[index].is_null = (raw + MySQLCell.nullPlace).assumingMemoryBound(to: my_bool.self)
        }
    }

    private static func isNumber(_ type: enum_field_types) -> Bool {
        switch type {
        case MYSQL_TYPE_TINY, MYSQL_TYPE_SHORT, MYSQL_TYPE_LONG, MYSQL_TYPE_INT24, MYSQL_TYPE_LONGLONG,
            MYSQL_TYPE_NEWDECIMAL, MYSQL_TYPE_DECIMAL, MYSQL_TYPE_YEAR:
            true
        default: false
        }
    }
}

/// Where one column of the row under the cursor is.
struct MySQLCell {
    var length: UInt = 0
    var null: CChar = 0
    var isNumber = false
    var room = 0
    var buffer: UnsafeMutableRawPointer?

    static let lengthPlace = MemoryLayout<MySQLCell>.offset(of: \MySQLCell.length) ?? 0
    static let nullPlace = MemoryLayout<MySQLCell>.offset(of: \MySQLCell.null) ?? 0
}

/// The row under the cursor. Do not let it escape: its memory is the statement's.
struct MySQLRow: ~Copyable {
    fileprivate let cells: UnsafeBufferPointer<MySQLCell>

    func isNull(_ column: Int) -> Bool { cells[column].null != 0 }

    func uint(_ column: Int) -> UInt64 {
        guard cells[column].null == 0, cells[column].isNumber, let buffer = cells[column].buffer else { return 0 }
        return buffer.load(as: UInt64.self)
    }

    func int(_ column: Int) -> Int64 { Int64(bitPattern: uint(column)) }

    func bool(_ column: Int) -> Bool { uint(column) != 0 }

    private func bytes(_ column: Int) -> UnsafeRawBufferPointer {
        let cell = cells[column]
        guard cell.null == 0, !cell.isNumber else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: cell.buffer, count: min(Int(cell.length), cell.room))
    }

    func text(_ column: Int) -> String { String(decoding: bytes(column), as: UTF8.self) }

    func data(_ column: Int) -> Data { Data(bytes(column)) }
}
