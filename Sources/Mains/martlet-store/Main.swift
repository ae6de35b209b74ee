import ArgumentParser
import MartletSuite

@main
struct MartletStore: ServiceExecutable {
    static let role = "store"
    static let abstract = "The embedded stores, for services that are processes of their own."
    @OptionGroup var options: ServiceOptions
}
