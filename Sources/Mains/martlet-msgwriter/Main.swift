import ArgumentParser
import MartletSuite

@main
struct MartletMsgWriter: ServiceExecutable {
    static let role = "msgwriter"
    static let abstract = "From the log into the stores, exactly once."
    @OptionGroup var options: ServiceOptions
}
