import Foundation
import Wire

enum PushRecordDecoding {
    /// The seq in a log entry; 0 when it does not decode.
    static func seq(_ bytes: Data) -> UInt64 { (try? PushRecord(serializedBytes: bytes))?.message.seq ?? 0 }
}
