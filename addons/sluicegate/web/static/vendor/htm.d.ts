declare const htm: { bind(h: any): (text: TemplateStringsArray, ...values: any[]) => any };
export default htm;
