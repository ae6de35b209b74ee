import ArgumentParser
import MartletSuite

@main
struct MartletIM: ServiceExecutable {
    static let role = "im"
    static let abstract = "The rules of one-to-one messages."
    @OptionGroup var options: ServiceOptions
}
