from adapter import Addon
class Admin(Addon): pass
addons=[Admin()]
